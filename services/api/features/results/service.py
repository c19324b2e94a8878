"""What a job has made and counted so far: its figures, the versions that can be asked, the rows that it works on."""

from collections.abc import Iterator
from functools import partial
from itertools import accumulate
from typing import Any

from services.api.context import ApiContext
from services.api.features.jobs import service as jobs
from shared.contracts.data import Split
from shared.contracts.errors import UserError
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import learns
from shared.contracts.steps import StepResult
from shared.contracts.views import CheckpointMetrics, CheckpointObject
from shared.datasets.files import data_of
from shared.jobs.records import ModelRecord, StepRecord
from shared.jobs.states import StepState


def metrics(
    context: ApiContext, project: str, job_id: str, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], bool]:
    """The figures of the steps that have any, newest first. Raises UserError for an `after` that is no step of the job."""
    jobs.row(context, project, job_id)
    found = [_figures(step) for step in _newest_first(context.stores.steps.of_job(job_id))]
    return _page([figures for figures in found if figures["values"]], after, limit, "step")


def _figures(step: StepRecord) -> dict[str, Any]:
    progress = step.progress
    return {
        "object": "distillation.metrics",
        "id": step.id,
        "step": step.key,
        "phase": StepKey.parse(step.key).phase,
        "kind": step.kind,
        "state": step.state,
        "done": progress.done if progress else None,
        "total": progress.total if progress else None,
        "values": step.metrics or (progress.metrics if progress else {}),
        "finished_at": step.finished_at,
    }


def checkpoints(
    context: ApiContext, project: str, job_id: str, after: str | None, limit: int
) -> tuple[list[CheckpointObject], bool]:
    """The job's versions, newest first. Raises UserError for an `after` that is none of them."""
    jobs.row(context, project, job_id)
    trained = {adapter: (step, count) for adapter, step, count in _trainings(context, job_id)}
    made = [
        _checkpoint(version, *trained.get(version.adapter, (None, 0)))
        for version, _ in context.stores.catalog.models(project)
        if version.job_id == job_id
    ]
    items, more = _page([checkpoint.model_dump() for checkpoint in made], after, limit, "checkpoint")
    return [CheckpointObject.model_validate(item) for item in items], more


def _trainings(context: ApiContext, job_id: str) -> Iterator[tuple[str, StepRecord, int]]:
    """(what was trained, its step, optimiser steps of the job up to there), in time. Baselines are not on the way there, and
    of trainings whose results were let go of nobody knows any more what they made."""
    done = [
        step
        for step in context.stores.steps.of_job(job_id)
        if learns(step.kind) and step.state == StepState.SUCCEEDED and not StepKey.parse(step.key).is_baseline
    ]
    done.sort(key=lambda step: (step.finished_at, step.id))
    counts = accumulate(int(step.metrics.get("steps", 0)) for step in done)
    for step, count in zip(done, counts, strict=True):
        if step.result_ref is not None:
            made = StepResult.model_validate(context.artifacts.get_json(step.result_ref)).trained
            if made is not None:
                yield made, step, count


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


def examples(
    context: ApiContext, project: str, job_id: str, split: Split | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], bool]:
    """The rows of the job's files, in their order. Raises UserError for an `after` that is none of them."""
    job = jobs.row(context, project, job_id)
    rows = data_of(job, partial(context.stores.catalog.file, project)).rows(context.artifacts)
    shown = [
        {"object": "distillation.example"} | row.model_dump(mode="json") for row in rows if split in (None, row.split)
    ]
    return _page(shown, after, limit, "example")


def _newest_first(steps: list[StepRecord]) -> list[StepRecord]:
    return sorted(steps, key=lambda step: (step.created_at, step.id), reverse=True)


def _page(items: list[dict[str, Any]], after: str | None, limit: int, what: str) -> tuple[list[dict[str, Any]], bool]:
    start = 0
    if after:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        if not places:
            raise UserError(f"no {what} {after[:100]!r} to continue after", param="after", code="unknown_cursor")
        start = places[0] + 1
    return items[start : start + limit], len(items) > start + limit
