"""What is refused before a job exists: all that is wrong with a request, in one list, each problem with its remedy.

To add a check write a function `(Posted) -> Iterator[Problem | str]` and name it in CHECKS, or in LIVE of live_checks.py if it asks
something outside this process. It yields problems, and texts for people about what was checked and is right. If its input is missing
(a file, the answer of a gateway) it yields nothing: another check reports that.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from services.api.features.files.service import error_summary, run
from services.api.features.jobs import starts
from services.api.features.jobs.material_checks import material
from services.api.features.jobs.posted import Posted
from services.api.features.jobs.sample_checks import samples
from shared.artifacts.capabilities import published
from shared.artifacts.chat_templates import ChatTemplate, TemplateRefused, prompt_template
from shared.contracts.conversation import with_parsed_calls
from shared.contracts.data import LEAST_ROWS, Question, Split, group_key
from shared.contracts.distillation import Distillation, Phase
from shared.contracts.estimate import Price
from shared.contracts.problems import Problem, refuse, warning
from shared.contracts.rows import asked
from shared.contracts.steps import Strategy
from shared.datasets.columns import HAS_MESSAGES, HAS_REFERENCE, HAS_REJECTED
from shared.datasets.files import PURPOSE
from shared.datasets.likeness import WORDS, Likeness
from shared.datasets.splits import CODES
from shared.datasets.two_files import MOST_COMPARED, shared_with_training
from shared.evaluation.parts import dev_parts, undivided
from shared.jobs.records import FileRecord
from shared.plan.allocation import allocate
from shared.plan.plan import JudgeUse, calls_per_judged_question
from shared.plan.student_checks import problems

MOST_PARTED = 1000  # dev questions that are looked at; more have room for two parts
MOST_RENDERED = 2000  # conversations of a file that are tried with the student's chat template
Check = Callable[[Posted], Iterator[Problem | str]]


class Findings(NamedTuple):
    """problems: errors and warnings. right: what was looked at and is in order."""

    problems: list[Problem]
    right: list[str]


def student(posted: Posted) -> Iterator[Problem | str]:
    """The student is one that this deployment can serve and train, or a version of one."""
    context, model = posted.context, posted.request.model
    names = [base.name for base in context.students]
    if model in names:
        yield f"student {model!r}: served and trained here"
        return
    if (version := starts.version_of(context, model)) is not None:
        yield from starts.problems(posted, version)
        return
    hint = "METEOR_STUDENTS names more; a version (GET /v1/models) is trained further"
    if not context.swaps and context.bases.find(model) is not None:
        hint = "METEOR_WEAK_ENGINE_URL names a server of your own, which serves no other"
    message = f"model must be {' or '.join(map(repr, names))}, not {model!r}"
    yield Problem(code="model_not_found", param="model", message=message, remedy=hint)


def abilities(posted: Posted) -> Iterator[Problem | str]:
    """The student can do what the job needs, as far as the capability probe has tried it."""
    capabilities = published(posted.context.platform.data, posted.request.model)
    if capabilities is None:
        return
    unfit = problems(capabilities, posted.request, posted.context.settings.max_rank)
    yield from unfit
    if not unfit:
        yield f"student {capabilities.base!r}: tried as {capabilities.architecture}"


def prompts(posted: Posted) -> Iterator[Problem | str]:
    """The student's chat template renders a question, by itself or adapted."""
    try:
        profile = posted.context.bases.prompts(posted.request.model)
    except TemplateRefused as refused:
        yield Problem(code=refused.code or "", param="model", message=refused.reason, remedy=refused.remedy)
        return
    if profile is not None and profile.template is not None:
        yield "its chat template is adapted for training, answers and chats alike (docs/how-to/several-models.md)"


def conversations(posted: Posted) -> Iterator[Problem | str]:
    """The student's chat template takes the conversations of the files; some want the user to begin, or calls to be answered."""
    base = posted.context.bases.find(posted.request.model)
    if posted.data is None or base is None or base.folder is None or not posted.rows.conversations:
        return
    import numpy as np

    places = np.flatnonzero(posted.rows.has(HAS_MESSAGES))
    try:
        template = prompt_template(base.folder, posted.context.bases.prompts(base.name))
    except TemplateRefused:
        return
    refused = refused_rows(
        template, posted.rows.read(places[:MOST_RENDERED]), posted.context.bases.shows_calls(base.name)
    )
    looked = min(len(places), MOST_RENDERED)
    if not refused:
        yield f"conversations: {len(places)}; the student's chat template renders {looked} of {looked} that were tried"
        return
    shown = ", ".join([*refused][:5]) + (", ..." if len(refused) > 5 else "")
    yield Problem(
        code="conversations_refused",
        param="training_file",
        message=f"the chat template of {base.name!r} refuses {len(refused)} of {looked} conversations ({shown}): "
        f"{next(iter(refused.values()))}",
        remedy="leave these rows out, let a conversation begin with the user, or name another student",
    )


def refused_rows(template: ChatTemplate, rows: Iterable[Question], shows_calls: bool) -> dict[str, str]:
    """The template's words by the id of each row that it refuses."""
    refused = {}
    for row in rows:
        conversation = asked(row, shows_calls).get("conversation")
        if conversation is None:
            continue
        try:
            template.render(with_parsed_calls(conversation.messages), True, tools=conversation.tools or None)
        except TemplateRefused as error:
            refused[row.id] = error.reason
    return refused


def adapter(posted: Posted) -> Iterator[Problem | str]:
    """The engine can serve what is trained."""
    wanted, most = posted.spec.adapter, posted.context.settings.max_rank
    if wanted.is_whole and not posted.context.swaps:
        what = "use_dora" if wanted.use_dora else "method"
        yield Problem(
            code="method_not_served",
            param=f"distillation.adapter.{what}",
            message=f"{'use_dora' if wanted.use_dora else 'method full'} needs an engine that can load the trained model, and "
            "METEOR_WEAK_ENGINE_URL names a server of your own",
            remedy="ask for method lora, without use_dora",
        )
    if not wanted.is_whole and wanted.rank > most:
        yield Problem(
            code="rank_too_large",
            param="distillation.adapter.rank",
            message=f"the engine serves adapters of rank {most} at most, not {wanted.rank}",
            remedy="METEOR_ENGINE_MAX_LORA_RANK raises it",
        )


def providers(posted: Posted) -> Iterator[Problem | str]:
    """The strong models are configured."""
    if posted.asks:
        yield from provider_problems(posted.spec.teacher.provider, posted.prices, "distillation.teacher.provider")
        yield from provider_problems(posted.spec.judge.provider, posted.prices, "distillation.judge.provider")


def provider_problems(name: str, prices: Mapping[str, Price] | None, param: str) -> Iterator[Problem]:
    """prices: None while the gateway is unavailable; then nothing is checked."""
    if prices is not None and name not in prices:
        yield Problem(
            code="provider_not_found",
            param=param,
            message=f"no strong model is configured under the name {name!r}; known: {', '.join(prices) or 'none'}",
            remedy="name one of them, or add it: METEOR_TEACHER_BASE_URL or METEOR_PROVIDERS_FILE",
        )


def files(posted: Posted) -> Iterator[Problem | str]:
    """The files are there, are datasets and have no bad lines."""
    yield from posted.missing_files
    for field, file in posted.files.items():
        yield from _file_problems(file, field)
    if posted.data is not None:
        counts = ", ".join(f"{split.value} {rows}" for split, rows in posted.data.splits.items())
        yield f"rows: {sum(posted.data.splits.values())} ({counts})"


def _file_problems(file: FileRecord, param: str) -> Iterator[Problem]:
    if file.purpose != PURPOSE:
        yield Problem(
            code="invalid_file_format",
            param=param,
            message=f"file {file.id} is no dataset (purpose {file.purpose})",
            remedy="import it first: POST /v1/imports, or meteor data import",
        )
    elif file.status != "processed":
        yield Problem(
            code="invalid_file_format",
            param=param,
            message=f"file {file.id} has {error_summary(file) or 'status ' + file.status}",
            remedy=f"mend these lines and upload the file again; POST /v1/files/{file.id}/validate lists them",
        )


def apart(posted: Posted) -> Iterator[Problem | str]:
    """Decisions are made on the validation rows, so none of them may be trained on or reported."""
    if posted.data is None or posted.data.validation is None:
        return
    twice = posted.rows.in_both()
    if twice:
        shown = ", ".join(twice[:5]) + (", ..." if twice[5:] else "")
        yield Problem(
            code="rows_in_both_files",
            param="validation_file",
            message=f"{len(twice)} rows of the validation file ({shown}) have a question or a group that is in the training file "
            "too",
            remedy="take them out of one of the two",
        )
    else:
        yield from _alike(posted)


def _alike(posted: Posted) -> Iterator[Problem | str]:
    """Validation rows that are nearly rows of the training file: what is learned shows in them, and decisions look better than they
    are."""
    rows = posted.rows
    assert rows.validation is not None
    if len(rows) > MOST_COMPARED:
        yield Problem(
            code="files_not_compared",
            param="validation_file",
            level="warning",
            message=f"the two files have {len(rows)} rows together, and near twins are looked for among {MOST_COMPARED} at most",
            remedy="leave validation_file out: an upload compares its own splits, whatever its length",
        )
        return
    artifacts, both = posted.context.artifacts, (rows.training.references, rows.validation.references)
    longest = max((artifacts.file(one.rows) for one in both), key=lambda path: path.stat().st_size)
    counts = run(longest, shared_with_training, artifacts, *both)
    if counts:
        yield Problem(
            code="rows_alike_in_both_files",
            param="validation_file",
            level="warning",
            message="rows of the validation file share something with rows of the training file: "
            + "; ".join(f"{WORDS[Likeness(kind)]}: {count}" for kind, count in counts.items()),
            remedy="take them out of one of the two, or results on the validation file look better than they are",
        )
    else:
        yield "the validation file: no near twin, reference or passage of the training file in it"


def enough_rows(posted: Posted) -> Iterator[Problem | str]:
    """Every split and every phase has something to work on."""
    if posted.data is None:
        return
    splits = posted.data.splits
    if any(splits[split] < least for split, least in LEAST_ROWS.items()):
        has = ", ".join(f"{split.value} {n}" for split, n in splits.items())
        needs = ", ".join(f"{split.value} {n}" for split, n in LEAST_ROWS.items())
        of_validation = posted.data.validation and splits[Split.DEV] < LEAST_ROWS[Split.DEV]
        yield Problem(
            code="too_few_rows",
            param="validation_file" if of_validation else "training_file",
            message=f"too few rows: {sum(splits.values())}, needed {sum(LEAST_ROWS.values())} that differ; after splitting there are "
            f"{has}, and at least {needs} are needed",
            remedy="upload more rows; rows that share a question, a group, a passage or a reference stand in one split",
        )
        return
    train, wanted = splits[Split.TRAIN], _wanted_questions(posted.spec)
    if sum(wanted.values()) > train:
        parts = " + ".join(f"{phase}.questions {n}" for phase, n in wanted.items())
        yield Problem(
            code="too_many_questions",
            param=f"distillation.{next(iter(wanted))}.questions",
            message=f"{parts} is more than the train split's {train} rows",
            remedy="name fewer, or upload more rows",
        )
        return
    empty = [phase.value for phase, count in allocate(train, posted.spec).items() if count == 0]
    if empty:
        yield Problem(
            code="too_few_rows",
            param=f"distillation.{empty[0]}.questions",
            message=f"the train split's {train} rows leave none for {' and '.join(empty)}",
            remedy="upload more rows, name fewer questions for the other phases, or leave the phase out",
        )


def _wanted_questions(spec: Distillation) -> dict[str, int]:
    """phase -> the number of training questions that the request names for it."""
    named = {Phase.DISTILL: spec.distill, Phase.ITERATE: spec.iterate, Phase.EVOLVE: spec.evolve}
    return {
        phase.value: settings.questions
        for phase, settings in named.items()
        if phase in spec.phases and settings.questions is not None
    }


def pairs(posted: Posted) -> Iterator[Problem | str]:
    """Training on preferences has rows with two answers."""
    spec = posted.spec
    if posted.data is None or Phase.EVOLVE not in spec.phases or spec.evolve.pairs != "file":
        return
    count = int(((posted.rows.splits == CODES[Split.TRAIN]) & posted.rows.has(HAS_REJECTED)).sum())
    if count < LEAST_ROWS[Split.TRAIN]:
        yield Problem(
            code="no_pairs",
            param="training_file",
            message=f"training on preferences needs rows with two answers, and the train split has {count} of them, of at least "
            f"{LEAST_ROWS[Split.TRAIN]}",
            remedy="give reference and rejected, or preferred_output and non_preferred_output",
        )


def verifiers(posted: Posted) -> Iterator[Problem | str]:
    """Where samples are to be verified there is something to verify them by."""
    spec = posted.spec
    if posted.data is None:
        return
    answered = int(((posted.rows.splits == CODES[Split.TRAIN]) & posted.rows.has(HAS_REFERENCE)).sum())
    verifies = Phase.EVOLVE in spec.phases and spec.contrasts and spec.evolve.strategy is Strategy.VERIFIED
    if verifies and not answered:
        yield warning(
            "nothing_to_verify_by",
            "evolve.strategy verified compares answers that judge.grader passes with answers that it does not, and no row of the "
            "train split has a reference to grade against",
            "give references, or take the strategy agreement, which needs none",
            "distillation.evolve.strategy",
        )
    sampled = Phase.ITERATE in spec.phases and spec.iterate.strategy != "critique"
    if sampled and answered and spec.judge.grader is None:
        yield warning(
            "references_unused",
            f"{answered} rows of the train split have a reference, and no grader says which samples of phase 2 it passes: "
            f"iterate.without_reference ({spec.iterate.without_reference}) decides",
            "name judge.grader",
            "distillation.judge.grader",
        )


def judge_calls(posted: Posted) -> Iterator[Problem | str]:
    """Without references the judge measures every question of dev and test, and it cannot stop half way: a budget that might
    not hold all its calls is refused."""
    settings = posted.spec.evaluation
    if settings.max_judge_calls is None or not posted.lacks_references or posted.plan is None:
        return
    need = posted.plan.most_calls(JudgeUse.MEASURING)
    need += calls_per_judged_question(posted.spec) if settings.judged_questions else 0
    if need > settings.max_judge_calls:
        yield Problem(
            code="max_judge_calls_too_small",
            param="distillation.evaluation.max_judge_calls",
            message=f"dev or test has too few references, so the judge measures all students there, which can take {need} calls "
            f"with what else is asked of it, and max_judge_calls allows {settings.max_judge_calls}",
            remedy="raise it, or ask fewer questions by evaluation.dev_questions and evaluation.test_questions",
        )


def parts_of_dev(posted: Posted) -> Iterator[Problem | str]:
    """A job that chooses among rounds or turns has dev questions for that beside those that decide."""
    if posted.data is None or not posted.spec.chooses:
        return
    import numpy as np

    rows, most = posted.rows, posted.spec.evaluation.dev_questions
    measured = (rows.splits == CODES[Split.DEV]) & (posted.lacks_references | rows.has(HAS_REFERENCE))
    places = np.flatnonzero(measured)[: min(most or MOST_PARTED, MOST_PARTED)]
    parts = dev_parts([group_key(row) for row in rows.read(places)])
    if parts is not None:
        yield "dev: rounds and turns are chosen on one part of it, and the rest decides"
        return
    yield warning(
        "dev_not_parted",
        undivided(len(places)),
        "give dev more questions that can be measured, or ask for one round and one turn",
        "validation_file" if posted.data.validation else "training_file",
    )


def sent_elsewhere(posted: Posted) -> Iterator[Problem | str]:
    """Metrics leave this system only where its operator allows it."""
    allowed = posted.context.platform.integration_types
    for number, one in enumerate(posted.request.integrations or ()):
        if one.type in allowed:
            yield f"integration {one.type}: the job's metrics are sent to its project"
            continue
        yield Problem(
            code="integration_not_allowed",
            param=f"integrations.{number}.type",
            message=f"this system sends no metrics to {one.type}",
            remedy="leave it out, or let the operator name it in METEOR_INTEGRATIONS",
        )


CHECKS: tuple[Check, ...] = (
    student, abilities, prompts, conversations, adapter, files, providers, apart, enough_rows, pairs, verifiers,
    judge_calls, parts_of_dev, material, samples, sent_elsewhere,
)  # fmt: skip


def findings_of(posted: Posted, checks: Iterable[Check]) -> Findings:
    """All that is wrong with the job, what its owner should know of it, and what is right."""
    findings = Findings([], [])
    for check in checks:
        for finding in check(posted):
            findings.right.append(finding) if isinstance(finding, str) else findings.problems.append(finding)
    return findings


def check_provider(name: str, prices: Mapping[str, Price] | None, param: str) -> None:
    """Raises UserError."""
    refuse(provider_problems(name, prices, param))
