"""Where rows went: the versions of datasets that hold them, and the versions of models that learned from them.

What a training learned is read from the step's own input, as in a lineage. A student that continues from one that learned from a row has
learned from it too, within a job and in a job that continues its version.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.api.context import ProjectContext
from shared.artifacts.store import ArtifactMissing
from shared.contracts.errors import NotFound
from shared.contracts.forgetting import Call, HeldBy, LearnedBy
from shared.contracts.step_kinds import learns
from shared.contracts.steps import ModelRef, StepRequest, StepResult
from shared.datasets.files import rows_of
from shared.jobs.catalog import is_live
from shared.jobs.records import FileRecord, JobRecord, ModelRecord, StepRecord
from shared.jobs.states import StepState


class Traces(NamedTuple):
    datasets: list[HeldBy]
    models: list[LearnedBy]
    retrain: list[Call]


class Training(NamedTuple):
    """A finished training. before: the student that it went on from; None: a base. after: what it made."""

    before: str | None
    after: str
    rows: frozenset[str]


@dataclass
class Learned:
    """rows: of each student that learned, by its content hash, those that its own training read; empty: it went on from one that
    learned. unread: of jobs whose trainings have expired, the rows that their files hold. jobs: of each job that learned, the rows that its
    files hold, in other splits too."""

    rows: dict[str, set[str]] = field(default_factory=dict)
    unread: dict[str, set[str]] = field(default_factory=dict)
    jobs: dict[str, set[str]] = field(default_factory=dict)


def traces_of(context: ProjectContext, rows: Sequence[str], file_id: str | None = None) -> Traces:
    """rows: ids. file_id: of rows whose ids mean something in the versions of this file alone. Raises NotFound for an unknown file."""
    wanted = set(rows)
    files = context.stores.catalog.datasets(context.project)
    if file_id is not None:
        named = context.file(file_id)
        files = [file for file in files if _dataset(file) == _dataset(named)]
    held = {file.id: ids for file in files if wanted and (ids := _held(context, file, rows))}
    by_id = {file.id: file for file in files}
    learned = _learned(context, held)
    return Traces(
        [_holding(by_id[file], ids) for file, ids in held.items()],
        list(_models(context, learned)),
        [_fork(job, ids) for job, ids in learned.jobs.items() if _can_fork(context, job)],
    )


def _dataset(file: FileRecord) -> str:
    return file.dataset_id or file.id


def _held(context: ProjectContext, file: FileRecord, rows: Sequence[str]) -> list[str]:
    """The ids that are in a file; none where its rows are gone."""
    try:
        stored = rows_of(file, context.artifacts, context.stores.catalog)
        return [row for row in rows if stored.find(row) is not None]
    except ArtifactMissing:
        return []


def _holding(file: FileRecord, rows: list[str]) -> HeldBy:
    live = is_live(file)
    remove = Call(path=f"/v1/files/{file.id}/versions", body={"remove": rows}) if live else None
    return HeldBy(
        file=file.id, dataset=_dataset(file), version=file.version or 1, deleted=not live, rows=rows, remove=remove
    )


def _learned(context: ProjectContext, held: dict[str, list[str]]) -> Learned:
    """What the trainings of the jobs on these files read, and who went on from what they made."""
    learned, seen = Learned(), set[str]()
    waiting = context.stores.jobs.reading_files(context.project, held)
    while waiting:
        job = waiting.pop()
        if job.id in seen:
            continue
        seen.add(job.id)
        mine = {row for file in _files_of(job) for row in held.get(file, ())}
        _read(context, job, mine, learned)
        names = {f"{model.alias}@{model.version}" for model, _ in _versions(context, learned)}
        waiting += [one for one in context.stores.jobs.continuing(context.project, names) if one.id not in seen]
    return learned


def _files_of(job: JobRecord) -> Iterator[str]:
    yield from filter(None, (job.file_id, job.request.get("validation_file")))


def _read(context: ProjectContext, job: JobRecord, rows: Collection[str], learned: Learned) -> None:
    """Adds what one job's trainings learned, in the order in which they ended."""
    steps = [step for step in context.stores.steps.of_job(job.id) if learns(step.kind)]
    steps = sorted(
        (step for step in steps if step.state == StepState.SUCCEEDED), key=lambda step: step.finished_at or 0
    )
    for step in steps:
        training = _training(context, step, rows)
        if training is None:
            if rows:
                learned.unread[job.id] = set(rows)
                learned.jobs.setdefault(job.id, set()).update(rows)
            continue
        if training.rows or training.before in learned.rows:
            learned.rows.setdefault(training.after, set()).update(training.rows)
        if training.rows:
            learned.jobs[job.id] = set(rows)


def _training(context: ProjectContext, step: StepRecord, rows: Collection[str]) -> Training | None:
    """None where the step's input or result has expired."""
    if step.result_ref is None:
        return None
    try:
        request = StepRequest.model_validate(context.artifacts.get_json(step.input_hash))
        result = StepResult.model_validate(context.artifacts.get_json(step.result_ref))
    except ArtifactMissing:
        return None
    if result.trained is None:
        return None
    before = ModelRef.model_validate(request.params["model"]).tuned
    return Training(before, result.trained, frozenset(row["id"] for row in request.rows if row["id"] in rows))


def _versions(context: ProjectContext, learned: Learned) -> Iterator[tuple[ModelRecord, bool]]:
    """Live ones that learned, or may have, each with whether its alias serves it."""
    for model, served in context.stores.catalog.models(context.project):
        if model.adapter in learned.rows or model.job_id in learned.unread:
            yield model, served


def _models(context: ProjectContext, learned: Learned) -> Iterator[LearnedBy]:
    for model, served in _versions(context, learned):
        certain = model.adapter in learned.rows
        rows = learned.rows[model.adapter] if certain else learned.unread.get(model.job_id or "", set())
        yield LearnedBy(
            model=f"{model.alias}@{model.version}",
            job=model.job_id or "",
            state=model.state,
            served=served,
            rows=sorted(rows),
            inherited=certain and not rows,
            certain=certain,
        )


def _can_fork(context: ProjectContext, job_id: str) -> bool:
    """Whether its files are still there."""
    job = context.stores.jobs.get(job_id, context.project)
    try:
        return job is not None and all(context.file(file) for file in _files_of(job))
    except NotFound:
        return False


def _fork(job_id: str, rows: set[str]) -> Call:
    return Call(path=f"/v1/distillation/jobs/{job_id}/fork", body={"without": sorted(rows)})
