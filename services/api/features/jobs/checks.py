"""What is refused before a job exists: every request that could not run, with how to fix it."""

from collections.abc import Mapping
from typing import NamedTuple

from services.api.context import ApiContext, ProjectContext
from services.api.features.files.service import error_summary
from services.api.features.jobs import starts
from shared.contracts.data import Split, in_both, judge_must_decide
from shared.contracts.distillation import Phase
from shared.contracts.errors import NotFound, UserError
from shared.contracts.estimate import Price
from shared.contracts.jobs import JobRequest
from shared.contracts.steps import Method
from shared.datasets.files import PURPOSE, JobData
from shared.jobs.records import FileRecord
from shared.plan.allocation import allocate
from shared.plan.plan import JudgeUse, Sizes, calls_per_judged_question, make_plan

LEAST_ROWS = {Split.TRAIN: 4, Split.DEV: 2, Split.TEST: 2}


class Checked(NamedTuple):
    """The job's files, and whether it asks a strong model anything."""

    data: JobData
    asks: bool


def check(context: ProjectContext, request: JobRequest, prices: Mapping[str, Price] | None) -> Checked:
    """Check the request against model, engine, providers and files. Raises UserError."""
    _check_student(context, starts.base_of(context, request.model))
    adapter, most = request.distillation.adapter, context.settings.max_rank
    if adapter.method is Method.FULL and not context.swaps:
        raise UserError(
            "method full needs an engine that can load the trained model, and METEOR_WEAK_ENGINE_URL names "
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
    data = files_of(context, request.training_file, request.validation_file)
    asks = not request.distillation.plain or _judge_is_asked(context, data, request)
    if asks:
        check_provider(request.distillation.teacher.provider, prices, "distillation.teacher.provider")
        check_provider(request.distillation.judge.provider, prices, "distillation.judge.provider")
    _check_files(context, data, request)
    _check_judge_calls(context, data, request)
    return Checked(data, asks)


def _judge_is_asked(context: ProjectContext, data: JobData, request: JobRequest) -> bool:
    """For a job that asks no teacher."""
    return request.distillation.evaluation.judged_questions > 0 or lacks_references(context, data)


def lacks_references(context: ProjectContext, data: JobData) -> bool:
    """Whether graders have too few references to measure by; False for files with bad lines, whose rows are unknown."""
    readable = all(file is None or file.rows_ref is not None for file in data)
    return readable and judge_must_decide(context.job_rows(data))


def check_provider(name: str, prices: Mapping[str, Price] | None, param: str) -> None:
    """prices: None while the gateway is unavailable; then nothing is checked. Raises UserError."""
    if prices is not None and name not in prices:
        known = ", ".join(prices) or "none; METEOR_TEACHER_BASE_URL or METEOR_PROVIDERS_FILE names some"
        raise UserError(
            f"no strong model is configured under the name {name!r}; known: {known}",
            param=param,
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
        f"model must be {' or '.join(map(repr, names))}, or a version such as expert@1 whose training goes on, not {model!r}; "
        f"{hint}; GET /v1/models lists all",
        param="model",
        code="model_not_found",
    )


def files_of(context: ProjectContext, training: str, validation: str | None) -> JobData:
    """Raises UserError."""
    return JobData(
        _file(context, training, "training_file"),
        _file(context, validation, "validation_file") if validation else None,
    )


def _file(context: ProjectContext, file_id: str, param: str) -> FileRecord:
    try:
        return context.file(file_id)
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


def _check_apart(context: ProjectContext, training: FileRecord, validation: FileRecord) -> None:
    """Decisions are made on the validation rows, so none of them may be trained on or reported. Raises UserError."""
    twice = in_both(context.file_rows(training), context.file_rows(validation))
    if twice:
        shown = ", ".join(twice[:5]) + (", ..." if twice[5:] else "")
        raise UserError(
            f"{len(twice)} rows of the validation file ({shown}) have a question or a group that is in the training file too; "
            "take them out of one of the two",
            param="validation_file",
            code="rows_in_both_files",
        )


def _check_files(context: ProjectContext, data: JobData, request: JobRequest) -> None:
    _check_file(data.training, "training_file")
    if data.validation is not None:
        _check_file(data.validation, "validation_file")
        _check_apart(context, data.training, data.validation)
    splits = data.splits
    if any(splits[split] < least for split, least in LEAST_ROWS.items()):
        has = ", ".join(f"{split.value} {n}" for split, n in splits.items())
        needs = ", ".join(f"{split.value} {n}" for split, n in LEAST_ROWS.items())
        raise UserError(
            f"too few rows after splitting by question: {has}; at least {needs} are needed",
            param="validation_file"
            if data.validation and splits[Split.DEV] < LEAST_ROWS[Split.DEV]
            else "training_file",
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


def _check_pairs(context: ProjectContext, data: JobData) -> None:
    """Raises UserError."""
    pairs = sum(row.split is Split.TRAIN and row.rejected is not None for row in context.job_rows(data))
    if pairs < LEAST_ROWS[Split.TRAIN]:
        raise UserError(
            f"training on preferences needs rows with two answers, and the train split has {pairs} of them, of at least "
            f"{LEAST_ROWS[Split.TRAIN]}: give reference and rejected, or preferred_output and non_preferred_output",
            param="training_file",
            code="no_pairs",
        )


def _check_judge_calls(context: ProjectContext, data: JobData, request: JobRequest) -> None:
    """Without references the judge measures every question of dev and test, and it cannot stop half way: a budget that might
    not hold all its calls is refused. Raises UserError."""
    spec, most = request.distillation, request.distillation.evaluation.max_judge_calls
    if most is None:
        return
    rows = context.job_rows(data)
    if not judge_must_decide(rows):
        return
    count = {split: sum(row.split == split for row in rows) for split in Split}
    bare = sum(not row.reference for row in rows if row.split == Split.TRAIN)
    plan = make_plan(spec, Sizes.of_splits(spec, count, bare, judge_measures=True))
    need = plan.most_calls(JudgeUse.MEASURING)
    need += calls_per_judged_question(spec) if spec.evaluation.judged_questions else 0
    if need > most:
        raise UserError(
            f"dev or test has too few references, so the judge measures all students there, which can take {need} calls "
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
    """phase -> the number of training questions that the request names for it."""
    spec = request.distillation
    named = {Phase.DISTILL: spec.distill, Phase.ITERATE: spec.iterate, Phase.EVOLVE: spec.evolve}
    return {
        phase.value: settings.questions
        for phase, settings in named.items()
        if phase in spec.phases and settings.questions is not None
    }
