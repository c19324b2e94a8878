"""Jobs: how they are made, moved and shown."""

import time
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from services.api.context import ApiContext
from services.api.features.jobs import checks as job_checks
from services.api.features.jobs import job_rows
from services.api.features.jobs.waiting import place
from services.api.features.webhooks import service as webhooks
from services.api.gateway_client import GatewayUnavailable
from shared.contracts.distillation import Budget
from shared.contracts.errors import NotFound, UserError
from shared.contracts.estimate import Price
from shared.contracts.experiments import EXPERIMENT, VARIANT
from shared.contracts.fine_tuning import method_of
from shared.contracts.jobs import (
    ForkedFrom,
    JobChange,
    JobDistillation,
    JobKind,
    JobObject,
    JobRequest,
    JobStatus,
)
from shared.jobs.records import JobRecord, StepRecord
from shared.jobs.states import FINAL_JOBS
from shared.ledger.accounts import FIELDS
from shared.platform.log import get_logger

log = get_logger(__name__)
UNCHECKED = "the strong-model gateway did not answer: whether it has the job's providers shows when they are asked"


def create(
    context: ApiContext,
    project: str,
    request: JobRequest,
    forked_from: ForkedFrom | None = None,
    key_id: str | None = None,
) -> JobObject:
    """Queue a job that can run. key_id: the API key that posts it. Raises UserError."""
    prices = known_prices(context)
    checked = job_checks.check(context, project, request, prices)
    if request.webhook is not None:
        webhooks.refuse_address(context, request.webhook.url, "webhook.url")
    found = context.stores.jobs.create(project, request, prices, forked_from, key_id)
    if prices is None and checked.asks:
        context.stores.jobs.add_event(found, UNCHECKED, level="warn")
    job = as_object(context, found)
    if request.webhook is not None:
        job.webhook_secret = webhooks.job_secret(context, project, request.webhook.url)
    return job


def known_prices(context: ApiContext) -> dict[str, Price] | None:
    """Provider -> price; None while the gateway is away: a job is taken all the same, since start-up order must not matter,
    and a provider that does not exist ends it at its first call, before anything was paid."""
    try:
        return context.providers.prices()
    except GatewayUnavailable as error:
        log.warning("providers not checked", error=error.message)
        return None


def row(context: ApiContext, project: str, job_id: str) -> JobRecord:
    return job_rows.find(context, project, JobKind.DISTILLATION, job_id)


def get(context: ApiContext, project: str, job_id: str) -> JobObject:
    return as_object(context, row(context, project, job_id))


def page(
    context: ApiContext,
    project: str,
    after: str | None,
    limit: int,
    status: JobStatus | None,
    metadata: Mapping[str, str],
) -> tuple[list[JobObject], bool]:
    rows, more = context.stores.jobs.page(project, after, limit, status, metadata)
    return [as_object(context, found) for found in rows], more


def cancel(context: ApiContext, project: str, job_id: str) -> JobObject:
    """Raises Conflict on a job that has ended."""
    found = row(context, project, job_id)
    return as_object(context, context.stores.jobs.cancel(found))


def pause(context: ApiContext, project: str, job_id: str) -> JobObject:
    """Raises Conflict on a job that has ended or is being cancelled."""
    return as_object(context, context.stores.jobs.pause(row(context, project, job_id)))


def resume(context: ApiContext, project: str, job_id: str) -> JobObject:
    """Raises Conflict on a job that is not paused."""
    return as_object(context, context.stores.jobs.resume(row(context, project, job_id)))


def change(context: ApiContext, project: str, job_id: str, wanted: JobChange) -> JobObject:
    """Raises Conflict on a new budget for a job that has ended, UserError on metadata that would leave its experiment."""
    found = row(context, project, job_id)
    request = JobRequest.model_validate(found.request)
    given = wanted.distillation.budget.model_dump(exclude_unset=True)
    budget = Budget.model_validate(request.distillation.budget.model_dump() | given) if given else None
    if wanted.metadata is not None and _place(wanted.metadata) != _place(request.metadata):
        names = f"{EXPERIMENT!r} and {VARIANT!r}"
        raise UserError(f"metadata: {names} say where the job belongs and must stay", param="metadata")
    if budget is not None and found.status not in FINAL_JOBS:
        context.ledger.set_budget(job_id, budget, key_id=found.key_id)  # first, so that a job which goes on finds it
    return as_object(context, context.stores.jobs.change(found, budget, wanted.metadata))


def _place(metadata: Mapping[str, str]) -> tuple[str | None, str | None]:
    return metadata.get(EXPERIMENT), metadata.get(VARIANT)


def report(context: ApiContext, project: str, job_id: str) -> Any:
    """The report's JSON. Raises NotFound (report_not_ready) before it is written."""
    found = row(context, project, job_id)
    if found.report_ref is None:
        message = f"job {job_id} is {found.status} and has no report yet"
        raise NotFound(message, param="job_id", code="report_not_ready")
    return context.artifacts.get_json(found.report_ref)


def usage(context: ApiContext, project: str, job_id: str) -> dict[str, Any]:
    """What the job's calls to the strong model cost and may cost, in all and by phase. A phase without a call has no entry.

    counted: what its budget counts, reservations included; None before its first step.
    """
    request = JobRequest.model_validate(row(context, project, job_id).request)
    phases, account = context.ledger.usage_by_phase(job_id), context.ledger.account(job_id)
    return {
        "object": "distillation.usage",
        "job_id": job_id,
        "budget": request.distillation.budget.model_dump(),
        "counted": account and {name: getattr(account, name) + getattr(account, f"held_{name}") for name in FIELDS},
        "total": context.ledger.usage(job_id).model_dump(),
        "phases": {phase: used.model_dump() for phase, used in phases.items()},
    }


STEP_FIELDS = (
    "id", "key", "kind", "queue", "state", "attempt", "attempts", "progress", "metrics", "reused_from", "error",
    "created_at", "started_at", "finished_at",
)  # fmt: skip


def steps(context: ApiContext, project: str, job_id: str) -> list[dict[str, Any]]:
    """The job's steps in the order in which they came to be, for people who want to see inside. Times in seconds."""
    row(context, project, job_id)
    rows = sorted(context.stores.steps.of_job(job_id), key=lambda step: (step.created_at, step.id))
    return [_step(step) for step in rows]


def _step(step: StepRecord) -> dict[str, Any]:
    shown = {name: to_jsonable_python(getattr(step, name)) for name in STEP_FIELDS}
    return {"object": "distillation.step"} | shown | {"progress": shown["progress"] or {}}


def as_object(context: ApiContext, found: JobRecord) -> JobObject:
    request = JobRequest.model_validate(found.request)
    progress, used = found.progress, context.ledger.usage(found.id)
    if found.status == JobStatus.PAUSED:
        progress = progress.model_copy(update={"eta_seconds": None})  # unknown until it is resumed
    eta = progress.eta_seconds if found.status not in FINAL_JOBS else None
    return JobObject(
        id=found.id,
        created_at=int(found.created_at),
        finished_at=int(found.finished_at) if found.finished_at else None,
        estimated_finish=None if eta is None else int(time.time() + eta),
        model=request.model,
        fine_tuned_model=found.fine_tuned_model,
        organization_id=found.project_id,
        status=found.status,
        error=found.error,
        hyperparameters=request.hyperparameters,
        method=method_of(request),
        training_file=request.training_file,
        validation_file=request.validation_file,
        result_files=(found.result or {}).get("result_files", []),
        seed=request.seed,
        suffix=request.suffix,
        trained_tokens=found.trained_tokens,
        metadata=request.metadata,
        webhook=request.webhook,
        distillation=JobDistillation(
            **request.distillation.model_dump(),
            forked_from=found.forked_from,
            phase=found.phase,
            status_reason=found.status_reason,
            failure=found.failure,
            queue=place(context, found),
            progress=progress,
            usage=used,
            estimate=found.estimate,
            evaluation_result=found.evaluation,
        ),
    )
