"""Forks: a new job out of another one's body. What both have in common is taken over, by the hashes of the steps.

A fork from a phase or a round names in numbers how the questions before that point were shared out, so that they stay where
they were whatever comes after. It is a job like any other: its body could have been posted by hand.
"""

from typing import Any

from services.api.context import ApiContext
from services.api.features.jobs import service as jobs
from services.api.features.jobs.bodies import job_of
from shared.contracts.data import Split
from shared.contracts.distillation import FULL_RATES, Distillation, Phase
from shared.contracts.errors import Conflict, UserError
from shared.contracts.experiments import EXPERIMENT, VARIANT, merged
from shared.contracts.jobs import ForkedFrom, ForkPoint, ForkRequest, JobObject, JobRequest
from shared.contracts.steps import Method
from shared.datasets.files import data_of
from shared.jobs.records import StepRecord
from shared.jobs.states import StepState
from shared.plan.allocation import allocate, rounds_of

ALWAYS_BEFORE = (
    "model", "training_file", "validation_file", "seed", "hyperparameters", "distillation.domain", "distillation.primary_metric",
    "distillation.guidance", "distillation.batch_size", "distillation.answer_tokens", "distillation.adapter",
    "distillation.teacher", "distillation.judge", "distillation.pilot", "distillation.distill",
    "distillation.evaluation.dev_questions",
)  # fmt: skip
OF_LATER_ROUNDS = {"rounds", "questions", "round_questions"}  # of phase 2's settings, what may change after a round


def fork(context: ApiContext, project: str, job_id: str, request: ForkRequest, key_id: str | None = None) -> JobObject:
    """Queue a new job with another one's settings and changes to them. Raises NotFound, UserError, and Conflict where what
    `from` names is not finished."""
    origin, point = jobs.row(context, project, job_id), request.point
    before = JobRequest.model_validate(origin.request)
    body = merged(_body(before), request.changes)
    after = job_of(body)
    if point is not None:
        _check_finished(point, before.distillation, context.stores.steps.of_job(job_id))
        _check_unchanged(before, after, point)
        train = data_of(origin, context.stores.catalog.file_of_job).splits[Split.TRAIN]
        after = job_of(_pinned(body, before.distillation, after.distillation, point, train))
    made_from = ForkedFrom(job_id=job_id, **(point.model_dump() if point else {}))
    return jobs.create(context, project, after, made_from, key_id)


def _body(job: JobRequest) -> dict[str, Any]:
    """What to lay the changes over: the job's effective settings, less what only belongs to itself: its place in an
    experiment, and learning rates that are the method's own and would be others with another method."""
    body = job.model_dump(mode="json")
    for key in (EXPERIMENT, VARIANT):
        body["metadata"].pop(key, None)
    spec = body["distillation"]
    for phase, full in FULL_RATES.items():
        lora = Distillation.model_fields[phase].get_default().learning_rate
        own = full if job.distillation.adapter.method is Method.FULL else lora
        if spec[phase]["learning_rate"] == own:
            del spec[phase]["learning_rate"]
    return body


def _check_finished(point: ForkPoint, spec: Distillation, steps: list[StepRecord]) -> None:
    """A phase is over once its student is measured on dev, a round once it is trained on or the next one has begun."""
    if point.phase not in spec.phases:
        raise UserError(f"the job has no phase {point.phase.value}", param="from.phase", code="no_such_phase")
    done = {step.key for step in steps if step.state == StepState.SUCCEEDED}

    def any_of(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in done)

    over = any_of(f"evaluate/dev/{point.phase.value}/")
    if point.round is not None:
        trained = f"iterate/{point.round}/train" in done or any_of(f"iterate/{point.round + 1}/")
        over = trained or (over and any_of(f"iterate/{point.round}/"))
    if not over:
        raise Conflict(
            f"{point} is not finished; GET .../steps shows what is. Leave `from` out to take over whatever is done",
            param="from",
            code="not_finished",
        )


def _check_unchanged(before: JobRequest, after: JobRequest, point: ForkPoint) -> None:
    """Nothing that comes before the point is another than it was. Raises UserError that names it."""
    one, other = before.model_dump(mode="json"), after.model_dump(mode="json")
    names: list[str] = list(ALWAYS_BEFORE)
    if point.phase is not Phase.DISTILL:
        free = OF_LATER_ROUNDS if point.round is not None else set()
        names += [f"distillation.iterate.{name}" for name in one["distillation"]["iterate"] if name not in free]
    if point.phase is Phase.EVOLVE:
        names.append("distillation.evolve")
    changed = next((name for name in names if _at(one, name) != _at(other, name)), None)
    kept, phases = _until(before.distillation, point.phase), _until(after.distillation, point.phase)
    changed = changed or ("distillation.phases" if kept != phases else None)
    if changed:
        raise UserError(
            f"{changed} has to do with what comes before the end of {point}, which a fork from there takes over as it is; "
            "leave `from` out to have what it changes done again",
            param=f"changes.{changed}",
            code="before_the_fork",
        )


def _at(body: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        body = body[part]
    return body


def _until(spec: Distillation, last: Phase) -> list[Phase]:
    """The phases up to this one, itself included."""
    order = list(Phase)
    return [phase for phase in spec.phases if order.index(phase) <= order.index(last)]


def _pinned(
    body: dict[str, Any], before: Distillation, after: Distillation, point: ForkPoint, train: int
) -> dict[str, Any]:
    """The body with the numbers of questions that everything up to the point had. train: rows of the train split."""
    had = allocate(train, before)
    pins: dict[str, Any] = {phase.value: {"questions": had[phase]} for phase in _until(before, point.phase)}
    if point.round is not None:
        rounds = rounds_of(range(had[Phase.ITERATE]), before.iterate.rounds, before.iterate.round_questions)
        first = [len(questions) for questions in rounds[: point.round]]
        total = _questions_of_all_rounds(after, first, train - had.get(Phase.DISTILL, 0))
        pins["iterate"] = {"questions": total, "round_questions": first}
    if after.pause_after is not None and after.pause_after in after.stages[: after.stages.index(point.phase.value) + 1]:
        pins["pause_after"] = None  # that stage is behind it
    return merged(body, {"distillation": pins})


def _questions_of_all_rounds(spec: Distillation, first: list[int], left: int) -> int:
    """What the job names, else the first rounds' and, for further ones, their share of what is left beside later phases.

    left: train rows for phase 2 and later. Raises UserError where a round would have no question.
    """
    settings = spec.iterate
    if len(first) > settings.rounds:
        raise UserError(
            f"a fork from round {len(first)} has that many rounds at least, not {settings.rounds}",
            param="changes.distillation.iterate.rounds",
            code="before_the_fork",
        )
    total = settings.questions
    if total is None:
        later = [phase for phase in spec.phases if phase is not Phase.DISTILL]
        more = allocate(max(0, left - sum(first)), spec.model_copy(update={"phases": later}))[Phase.ITERATE]
        total = sum(first) + (more if settings.rounds > len(first) else 0)
    shares = rounds_of(range(total), settings.rounds, first)
    empty = next((number for number, part in enumerate(shares, start=1) if not part), None)
    if empty is not None or total < sum(first):
        raise UserError(
            f"round {empty or len(first)} has no question: the rounds up to {len(first)} had {sum(first)}, and all "
            f"{settings.rounds} together have {total}; name more, or fewer for the phases after it",
            param="changes.distillation.iterate.questions",
            code="too_few_rows",
        )
    return total
