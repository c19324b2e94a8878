"""Forks: a new job with another job's settings and changes to them. Steps with the same hash are reused.

A fork from a phase or a round fixes how many questions each stage up to that point had, so that their split stays the same. It
is a job like any other: its body could have been posted by hand.
"""

from collections.abc import Iterator
from typing import Any

from services.api.context import ProjectContext
from services.api.features.files import service as files
from services.api.features.files import versions
from services.api.features.jobs import service as jobs
from services.api.features.jobs.posted import Posted
from services.api.features.jobs.service import job_request
from shared.contracts.data import Split
from shared.contracts.distillation import FOLLOWING, Distillation, Phase
from shared.contracts.errors import Conflict, MeteorError, UserError
from shared.contracts.experiments import EXPERIMENT, VARIANT, merged
from shared.contracts.jobs import ForkedFrom, ForkPoint, ForkRequest, JobObject, JobRequest
from shared.contracts.problems import Problem, refuse
from shared.contracts.step_key import StepKey
from shared.contracts.versions import VersionRequest
from shared.datasets.files import JobData, data_of
from shared.jobs.records import JobRecord, StepRecord
from shared.jobs.states import StepState
from shared.plan.allocation import allocate, rounds_of

ALWAYS_BEFORE = (
    "model", "training_file", "validation_file", "seed", "hyperparameters", "distillation.domain", "distillation.primary_metric",
    "distillation.guidance", "distillation.batch_size", "distillation.answer_tokens", "distillation.adapter",
    "distillation.teacher", "distillation.judge", "distillation.pilot", "distillation.distill",
    "distillation.evaluation.dev_questions",
)  # fmt: skip
OF_LATER_ROUNDS = {"rounds", "questions", "round_questions"}  # settings of phase 2 that may change after a round

JobBody = dict[str, Any]  # a job request as JSON, which changes are merged into


def fork(context: ProjectContext, job_id: str, request: ForkRequest) -> JobObject:
    """Queue the new job. Raises NotFound, Refused, and Conflict if the stage that `from` names is not finished."""
    origin, point = jobs.lifecycle.record(context, job_id), request.point
    before = JobRequest.model_validate(origin.request)
    body = merged(_inherited(before), request.changes)
    if request.without:
        return _fork_without(context, origin, request, body)
    after = job_request(body)
    if after.faults:
        refuse(jobs.all_findings(Posted(context, after, jobs.known_prices(context), True)).problems)
    if point is not None:
        _check_finished(point, before.distillation, context.stores.steps.of_job(job_id))
        if changed := list(_changed_before(before, after, point)):
            refuse([*changed, *jobs.all_findings(Posted(context, after, jobs.known_prices(context), True)).problems])
        train = data_of(origin, context.stores.catalog.file_of_job).splits[Split.TRAIN]
        after = job_request(_pinned(body, before.distillation, after.distillation, point, train))
    return jobs.create(context, after, ForkedFrom(job_id=job_id, **(point.model_dump() if point else {})))


def _fork_without(context: ProjectContext, origin: JobRecord, request: ForkRequest, body: JobBody) -> JobObject:
    """On new versions of the files, which go again if the job is refused."""
    if request.point is not None:
        message = "without some rows nothing up to `from` stays as it was; leave `from` out"
        raise UserError(message, param="without", code="before_the_fork")
    made: dict[str, str] = {}
    try:
        for field, rows in _by_file(context, body, request.without).items():
            made[field] = versions.add(context, body[field], VersionRequest(remove=rows)).id
        return jobs.create(context, job_request(body | made), ForkedFrom(job_id=origin.id))
    except MeteorError:
        for file_id in made.values():
            files.delete(context, file_id)
        raise


def _by_file(context: ProjectContext, body: JobBody, without: list[str]) -> dict[str, list[str]]:
    """The rows to remove, by the field of the body that names their file. Raises NotFound, UserError."""
    by_field: dict[str, list[str]] = {}
    for field in ("training_file", "validation_file"):
        if body.get(field):
            rows = context.job_rows(JobData(context.file(body[field]))).training
            by_field[field] = [row for row in dict.fromkeys(without) if rows.find(row) is not None]
    known = {row for rows in by_field.values() for row in rows}
    if unknown := [row for row in without if row not in known]:
        more = f", nor {len(unknown) - 1} others" if unknown[1:] else ""
        raise UserError(f"no file of the job has a row {unknown[0]!r}{more}", param="without", code="row_not_found")
    return {field: rows for field, rows in by_field.items() if rows}


def _inherited(job: JobRequest) -> JobBody:
    """The job's effective settings, without its place in an experiment and without what follows from other settings, which may
    change."""
    body = job.model_dump(mode="json")
    for key in (EXPERIMENT, VARIANT):
        body["metadata"].pop(key, None)
    spec = body["distillation"]
    for phase, name in reversed(FOLLOWING):  # the last ones follow from the first
        value = spec[phase].pop(name)
        if getattr(getattr(Distillation.model_validate(spec), phase), name) != value:
            spec[phase][name] = value
    return body


def _check_finished(point: ForkPoint, spec: Distillation, steps: list[StepRecord]) -> None:
    """A phase ends when its student is measured on dev, a round when its training has ended or the next round has begun."""
    if point.phase not in spec.phases:
        raise UserError(f"the job has no phase {point.phase.value}", param="from.phase", code="no_such_phase")
    done = {StepKey.parse(step.key) for step in steps if step.state == StepState.SUCCEEDED}

    def began(number: int) -> bool:
        return any((key.phase, key.round) == (Phase.ITERATE, number) for key in done)

    finished = any(key.split == Split.DEV and key.student == point.phase for key in done)
    if point.round is not None:
        trained = StepKey("iterate", point.round, "train") in done or began(point.round + 1)
        finished = trained or (finished and began(point.round))
    if not finished:
        raise Conflict(
            f"{point} is not finished; GET .../steps shows what is. Leave `from` out to reuse whatever is finished",
            param="from",
            code="not_finished",
        )


def _changed_before(before: JobRequest, after: JobRequest, point: ForkPoint) -> Iterator[Problem]:
    """Settings of a stage up to the point that were changed."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    names: list[str] = list(ALWAYS_BEFORE)
    if point.phase is not Phase.DISTILL:
        free = OF_LATER_ROUNDS if point.round is not None else set()
        names += [f"distillation.iterate.{name}" for name in old["distillation"]["iterate"] if name not in free]
    if point.phase is Phase.EVOLVE:
        names.append("distillation.evolve")
    changed = [name for name in names if _at(old, name) != _at(new, name)]
    if _until(before.distillation, point.phase) != _until(after.distillation, point.phase):
        changed.append("distillation.phases")
    for name in changed:
        yield Problem(
            code="before_the_fork",
            param=f"changes.{name}",
            message=f"{name} affects stages up to the end of {point}, which a fork from there reuses unchanged",
            remedy="leave `from` out to run again what it affects",
        )


def _at(body: JobBody, name: str) -> Any:
    for part in name.split("."):
        body = body[part]
    return body


def _until(spec: Distillation, last: Phase) -> list[Phase]:
    """The phases up to this one, itself included."""
    order = list(Phase)
    return [phase for phase in spec.phases if order.index(phase) <= order.index(last)]


def _pinned(body: JobBody, before: Distillation, after: Distillation, point: ForkPoint, train: int) -> JobBody:
    """The body with the number of questions that each stage up to the point had. train: rows of the train split."""
    had = allocate(train, before)
    pins: JobBody = {phase.value: {"questions": had[phase]} for phase in _until(before, point.phase)}
    if point.round is not None:
        rounds = rounds_of(range(had[Phase.ITERATE]), before.iterate.rounds, before.iterate.round_questions)
        first = [len(questions) for questions in rounds[: point.round]]
        total = _questions_of_all_rounds(after, first, train - had.get(Phase.DISTILL, 0))
        pins["iterate"] = {"questions": total, "round_questions": first}
    if after.pause_after is not None and after.pause_after in after.stages[: after.stages.index(point.phase.value) + 1]:
        pins["pause_after"] = None  # the fork starts after that stage
    return merged(body, {"distillation": pins})


def _questions_of_all_rounds(spec: Distillation, first: list[int], left: int) -> int:
    """The number in the request; else that of the first rounds plus, for further rounds, a share of the rows that are left.

    left: train rows for phase 2 and later. Raises UserError if a round would have no question.
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
