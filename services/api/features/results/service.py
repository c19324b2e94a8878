"""What a job has produced and counted: report, cost, figures of its steps, published versions, and the rows it works on."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from pydantic_core import to_jsonable_python

from services.api.context import ProjectContext
from services.api.features.jobs import service as jobs
from services.api.paging import Paging, listed, page_of
from services.api.rows_page import page_of_rows
from shared.contracts.data import Split
from shared.contracts.errors import NotFound
from shared.contracts.jobs import JobRequest
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import learns
from shared.contracts.steps import StepResult
from shared.contracts.views import (
    CheckpointMetrics,
    CheckpointObject,
    ExampleObject,
    JobUsage,
    Listed,
    MetricsObject,
    StepObject,
)
from shared.datasets.files import data_of
from shared.jobs.records import ModelRecord, StepRecord
from shared.jobs.states import StepState
from shared.ledger.accounts import FIELDS


def report(context: ProjectContext, job_id: str) -> Any:
    """The report's JSON. Raises NotFound (report_not_ready) before it is written."""
    job = jobs.lifecycle.record(context, job_id)
    if job.report_ref is None:
        message = f"job {job_id} is {job.status} and has no report yet"
        raise NotFound(message, param="job_id", code="report_not_ready")
    return context.artifacts.get_json(job.report_ref)


def usage(context: ProjectContext, job_id: str) -> JobUsage:
    """What the job's calls to the strong model have cost, in total and by phase, and its budget."""
    request = JobRequest.model_validate(jobs.lifecycle.record(context, job_id).request)
    account = context.ledger.account(job_id)
    return JobUsage(
        job_id=job_id,
        budget=request.distillation.budget,
        counted=None
        if account is None
        else {name: getattr(account, name) + getattr(account, f"held_{name}") for name in FIELDS},
        total=context.ledger.usage(job_id),
        phases=context.ledger.usage_by_phase(job_id),
    )


def steps(context: ProjectContext, job_id: str) -> Listed[StepObject]:
    """The job's steps, oldest first."""
    records = _newest_first(context, job_id)
    origins = context.stores.steps.jobs_of(step.reused_from for step in records if step.reused_from)
    return listed([_step(step, origins.get(step.reused_from or "")) for step in reversed(records)])


STEP_FIELDS = StepObject.model_fields.keys() - {"object", "progress", "taken_over_from"}


def _step(step: StepRecord, origin: str | None) -> StepObject:
    """origin: the job whose step it was taken over from."""
    fields = {name: to_jsonable_python(getattr(step, name)) for name in STEP_FIELDS}
    progress = step.progress.model_dump(mode="json") if step.progress else {}
    return StepObject(**fields, progress=progress, taken_over_from=origin)


def _newest_first(context: ProjectContext, job_id: str) -> list[StepRecord]:
    jobs.lifecycle.record(context, job_id)
    steps = context.stores.steps.of_job(job_id)
    return sorted(steps, key=lambda step: (step.created_at, step.id), reverse=True)


def metrics(context: ProjectContext, job_id: str, paging: Paging) -> Listed[MetricsObject]:
    """The figures of the steps that have any, newest first. Raises UserError for an `after` that is no step of the job."""
    figures = [_figures(step) for step in _newest_first(context, job_id)]
    return page_of([step for step in figures if step.values], paging, "step")


def _figures(step: StepRecord) -> MetricsObject:
    progress = step.progress
    return MetricsObject(
        id=step.id,
        step=step.key,
        phase=StepKey.parse(step.key).phase,
        kind=step.kind,
        state=step.state,
        done=progress.done if progress else None,
        total=progress.total if progress else None,
        values=step.metrics or (progress.metrics if progress else {}),
        finished_at=step.finished_at,
    )


def checkpoints(context: ProjectContext, job_id: str, paging: Paging) -> Listed[CheckpointObject]:
    """The job's versions, newest first. Raises UserError for an `after` that is none of them."""
    jobs.lifecycle.record(context, job_id)
    trainings = {checkpoint: (step, count) for checkpoint, step, count in _trainings(context, job_id)}
    versions = [
        _checkpoint(version, *trainings.get(version.adapter, (None, 0)))
        for version, _ in context.stores.catalog.models(context.project)
        if version.job_id == job_id
    ]
    return page_of(versions, paging, "checkpoint")


def _trainings(context: ProjectContext, job_id: str) -> Iterator[tuple[str, StepRecord, int]]:
    """(content hash of the checkpoint, its step, optimiser steps of the job up to there), in time. Baselines are left out, and so
    are trainings whose results have expired."""
    trainings = [
        step
        for step in context.stores.steps.of_job(job_id)
        if learns(step.kind) and step.state == StepState.SUCCEEDED and not StepKey.parse(step.key).is_baseline
    ]
    trainings.sort(key=lambda step: (step.finished_at, step.id))
    counts = accumulate(int(step.metrics.get("steps", 0)) for step in trainings)
    for step, count in zip(trainings, counts, strict=True):
        if step.result_ref is not None:
            checkpoint = StepResult.model_validate(context.artifacts.get_json(step.result_ref)).trained
            if checkpoint is not None:
                yield checkpoint, step, count


def _checkpoint(version: ModelRecord, step: StepRecord | None, count: int) -> CheckpointObject:
    figures = step.metrics if step is not None else {}
    return CheckpointObject(
        id=version.id.replace("model-", "ftckpt-", 1),
        created_at=int(version.created_at),
        fine_tuned_model_checkpoint=f"{version.alias}@{version.version}",
        fine_tuning_job_id=str(version.job_id),
        step_number=count,
        metrics=CheckpointMetrics(step=int(figures.get("steps", 0)), train_loss=figures.get("loss")),
        step=step.key if step is not None else None,
        state=version.state,
    )


def examples(context: ProjectContext, job_id: str, paging: Paging, split: Split | None) -> Listed[ExampleObject]:
    """The rows of the job's files, in their order. Raises UserError for an `after` that is none of them."""
    rows = context.job_rows(data_of(jobs.lifecycle.record(context, job_id), context.file))
    page, more = page_of_rows(rows, paging, split, "example")
    return listed([ExampleObject(**dict(row)) for row in page], more)
