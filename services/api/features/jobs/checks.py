"""What is refused before a job exists: whatever could not run, told with what would mend it."""

from collections.abc import Mapping
from typing import NamedTuple

from services.api.context import ApiContext
from services.api.features.files.service import error_summary
from shared.contracts.data import Split, in_both, judge_must_decide
from shared.contracts.distillation import Phase
from shared.contracts.errors import NotFound, UserError
from shared.contracts.estimate import Price
from shared.contracts.jobs import JobRequest
from shared.contracts.steps import Method
from shared.datasets.files import PURPOSE, JobData, rows_of
from shared.jobs.records import FileRecord
from shared.plan.allocation import allocate
from shared.plan.plan import JudgeUse, Sizes, calls_per_judged_question, make_plan

NEEDED = {Split.TRAIN: 4, Split.DEV: 2, Split.TEST: 2}


class Checked(NamedTuple):
    """The job's files, and whether it asks a strong model anything."""

    data: JobData
    asks: bool


def check(context: ApiContext, project: str, request: JobRequest, prices: Mapping[str, Price] | None) -> Checked:
    """Hold the request against model, engine, providers and file. Raises UserError."""
    _check_student(context, request.model)
    adapter, most = request.distillation.adapter, context.settings.max_rank
    if adapter.method is Method.FULL and not context.swaps:
        raise UserError(
            "a whole model can be trained only where the engine can be made to serve it, and METEOR_WEAK_ENGINE_URL names "
            "a server of your own; ask for method lora",
            param="distillation.adapter.method",
            code="method_not_served",
        )
    if adapter.method is Method.LORA and adapter.rank > most:
        raise UserError(
            f"the engine serves adapters of rank {most} at most, not {adapter.rank}; METEOR_ENGINE_MAX_LORA_RANK raises it",
            param="distillation.adapter.rank",
            code="rank_too_large",
        )
    data = files_of(context, project, request.training_file, request.validation_file)
    asked = not request.distillation.plain or _judge_is_asked(context, data, request)
    if asked:
        _check_providers(request, prices)
    _check_files(context, data, request)
    _check_judge_calls(context, data, request)
    return Checked(data, asked)


def _judge_is_asked(context: ApiContext, data: JobData, request: JobRequest) -> bool:
    """Of a job that asks no teacher."""
    return request.distillation.evaluation.judged_questions > 0 or lacks_references(context, data)


def lacks_references(context: ApiContext, data: JobData) -> bool:
    """Whether graders have too little to measure by; of files with bad lines nobody knows."""
    good = all(file is None or file.rows_ref is not None for file in data)
    return good and judge_must_decide(data.rows(context.artifacts))


def _check_providers(request: JobRequest, prices: Mapping[str, Price] | None) -> None:
    for role in ("teacher", "judge"):
        name = getattr(request.distillation, role).provider
        if prices is not None and name not in prices:
            known = ", ".join(prices) or "none; METEOR_TEACHER_BASE_URL or METEOR_PROVIDERS_FILE names some"
            raise UserError(
                f"no strong model is configured under the name {name!r}; known: {known}",
                param=f"distillation.{role}.provider",
                code="provider_not_found",
            )


def _check_student(context: ApiContext, model: str) -> None:
    names = [base.name for base in context.students]
    if model in names:
        return
    hint = "METEOR_STUDENTS names more"
    if not context.swaps and context.bases.find(model) is not None:
        hint = "METEOR_WEAK_ENGINE_URL names a server of your own, which serves no other"
    raise UserError(
        f"model must be {' or '.join(map(repr, names))}, not {model!r}; {hint}", param="model", code="model_not_found"
    )


def files_of(context: ApiContext, project: str, training: str, validation: str | None) -> JobData:
    """Raises UserError."""
    found = _file(context, project, training, "training_file")
    return JobData(found, _file(context, project, validation, "validation_file") if validation else None)


def _file(context: ApiContext, project: str, file_id: str, param: str) -> FileRecord:
    try:
        return context.stores.catalog.file(project, file_id)
    except NotFound as error:
        raise UserError(error.message, param=param, code="file_not_found") from error


def _check_file(file: FileRecord, param: str) -> None:
    if file.purpose != PURPOSE:
        raise UserError(
            f"file {file.id} is no dataset (purpose {file.purpose}); import it first: POST /v1/imports, or meteor data import",
            param=param,
            code="invalid_file_format",
        )
    if file.status != "processed":
        message = f"file {file.id} has {error_summary(file) or 'status ' + file.status}"
        raise UserError(message, param=param, code="invalid_file_format")


def _check_apart(context: ApiContext, training: FileRecord, validation: FileRecord) -> None:
    """Nothing is learned from or reported that decisions are made on. Raises UserError."""
    twice = in_both(rows_of(training, context.artifacts), rows_of(validation, context.artifacts))
    if twice:
        shown = ", ".join(twice[:5]) + (", ..." if twice[5:] else "")
        raise UserError(
            f"{len(twice)} rows of the validation file ({shown}) have a question or a group that is in the training file too; "
            "take them out of one of the two",
            param="validation_file",
            code="rows_in_both_files",
        )


def _check_files(context: ApiContext, data: JobData, request: JobRequest) -> None:
    _check_file(data.training, "training_file")
    if data.validation is not None:
        _check_file(data.validation, "validation_file")
        _check_apart(context, data.training, data.validation)
    splits = data.splits
    if any(splits[split] < least for split, least in NEEDED.items()):
        has = ", ".join(f"{split.value} {n}" for split, n in splits.items())
        needs = ", ".join(f"{split.value} {n}" for split, n in NEEDED.items())
        raise UserError(
            f"too few rows after splitting by question: {has}; at least {needs} are needed",
            param="validation_file" if data.validation and splits[Split.DEV] < NEEDED[Split.DEV] else "training_file",
            code="too_few_rows",
        )
    wanted = _wanted_questions(request)
    if sum(wanted.values()) > splits[Split.TRAIN]:
        parts = " + ".join(f"{phase}.questions {n}" for phase, n in wanted.items())
        raise UserError(
            f"{parts} is more than the train split's {splits[Split.TRAIN]} rows",
            param=f"distillation.{next(iter(wanted))}.questions",
            code="too_many_questions",
        )
    _check_phases(request, splits[Split.TRAIN])
    if Phase.EVOLVE in request.distillation.phases and request.distillation.evolve.pairs == "file":
        _check_pairs(context, data)


def _check_pairs(context: ApiContext, data: JobData) -> None:
    """Raises UserError."""
    pairs = sum(row.split is Split.TRAIN and row.rejected is not None for row in data.rows(context.artifacts))
    if pairs < NEEDED[Split.TRAIN]:
        raise UserError(
            f"training on preferences needs rows with two answers, and the train split has {pairs} of them, of at least "
            f"{NEEDED[Split.TRAIN]}: give reference and rejected, or preferred_output and non_preferred_output",
            param="training_file",
            code="no_pairs",
        )


def _check_judge_calls(context: ApiContext, data: JobData, request: JobRequest) -> None:
    """Decisions need every question of dev, so a judge that measures, for want of references, cannot stop at a budget: one that
    might not hold all its calls is refused. Raises UserError."""
    spec, most = request.distillation, request.distillation.evaluation.max_judge_calls
    if most is None:
        return
    rows = data.rows(context.artifacts)
    if not judge_must_decide(rows):
        return
    count = {split: sum(row.split == split for row in rows) for split in Split}
    bare = sum(not row.reference for row in rows if row.split == Split.TRAIN)
    plan = make_plan(spec, Sizes.of_splits(spec, count, bare, judge_measures=True))
    need = plan.most_calls(JudgeUse.MEASURING)
    need += calls_per_judged_question(spec) if spec.evaluation.judged_questions else 0
    if need > most:
        raise UserError(
            f"dev or test has hardly any references, so the judge measures all students there, which can take {need} calls "
            f"with what else is asked of it, and max_judge_calls allows {most}; raise it, or ask fewer questions by "
            "evaluation.dev_questions and evaluation.test_questions",
            param="distillation.evaluation.max_judge_calls",
            code="max_judge_calls_too_small",
        )


def _check_phases(request: JobRequest, train: int) -> None:
    """Every phase has a question to work on. Raises UserError."""
    for phase, count in allocate(train, request.distillation).items():
        if count == 0:
            raise UserError(
                f"the train split's {train} rows leave none for {phase.value}; upload more rows, name fewer questions for "
                "the other phases, or leave the phase out",
                param=f"distillation.{phase.value}.questions",
                code="too_few_rows",
            )


def _wanted_questions(request: JobRequest) -> dict[str, int]:
    """phase -> how many train questions the request asks for, where it names a number."""
    settings = request.distillation
    asked = {
        Phase.DISTILL: settings.distill.questions,
        Phase.ITERATE: settings.iterate.questions,
        Phase.EVOLVE: settings.evolve.questions,
    }
    return {phase.value: n for phase, n in asked.items() if phase in settings.phases and n is not None}
