"""Distillation jobs: how they are created, changed and shown."""

import time
from collections.abc import Iterator, Mapping, Sequence

from services.api.context import ApiContext, ProjectContext
from services.api.features.canaries.checks import problems_of as canary_problems
from services.api.features.jobs import starts
from services.api.features.jobs.checks import CHECKS, Check, Findings, findings_of
from services.api.features.jobs.estimates import estimate_of
from services.api.features.jobs.grader_checks import graders
from services.api.features.jobs.lifecycle import JobLifecycle, common_fields
from services.api.features.jobs.live_checks import live_findings
from services.api.features.jobs.posted import Posted
from services.api.features.jobs.queue_place import places_in_queue
from services.api.features.jobs.size_checks import SIZE_CHECKS
from services.api.features.webhooks import service as webhooks
from services.api.gateway_client import GatewayUnavailable
from shared.contracts.errors import UserError
from shared.contracts.estimate import Price
from shared.contracts.experiments import EXPERIMENT, VARIANT
from shared.contracts.faults import besides, read
from shared.contracts.fine_tuning import method_of
from shared.contracts.jobs import (
    ForkedFrom,
    JobChange,
    JobCheck,
    JobDistillation,
    JobKind,
    JobObject,
    JobRequest,
    JobStatus,
    QueuePlace,
    Usage,
)
from shared.contracts.problems import Problem, Refused, refuse, warning
from shared.jobs.records import JobRecord
from shared.jobs.states import FINAL_JOBS
from shared.platform.log import get_logger

log = get_logger(__name__)
ETA = ("eta_seconds", "eta_low_seconds", "eta_high_seconds")
UNCHECKED = (
    "the strong-model gateway did not answer, so the job's providers were not checked; the first call to each will show "
    "whether it is configured"
)


def create(
    context: ProjectContext,
    request: JobRequest,
    forked_from: ForkedFrom | None = None,
    more: Sequence[Check] = (),
    job_id: str | None = None,
) -> JobObject:
    """Queue a job that can run. more: checks beside those of every job. job_id: one that was drawn before; where a job has it already,
    that one is returned. Raises Refused with all that is wrong."""
    posted = Posted(context, starts.pinned(context, request), known_prices(context), forked_from is not None)
    findings = all_findings(posted, more)
    refuse(findings.problems)
    record = context.stores.jobs.create(
        context.project, posted.request, posted.prices, forked_from, context.key_id, job_id
    )
    for problem in findings.problems:
        context.stores.jobs.add_event(record, problem.text, level="warn", once=job_id is not None)
    job = lifecycle.show(context, record)
    if request.webhook is not None:
        job.webhook_secret = webhooks.job_secret(context, request.webhook.url)
    return job


def all_findings(posted: Posted, more: Sequence[Check] = ()) -> Findings:
    """What every check finds, the live ones too. more: checks beside those of every job, asked first."""
    still, (live,) = still_findings(posted, more), live_findings([posted])
    problems = [*still.problems, *besides(posted.request.faults, live.problems)]
    return Findings(problems, still.right + live.right)


def still_findings(posted: Posted, more: Sequence[Check] = ()) -> Findings:
    """What is wrong with the body, and what the checks find that ask nothing outside."""
    faults, findings = (
        posted.request.faults,
        findings_of(posted, [*more, *CHECKS, graders, *SIZE_CHECKS, canary, webhook, gateway]),
    )
    return Findings([*faults, *besides(faults, findings.problems)], findings.right)


def check(context: ProjectContext, request: JobRequest, more: Sequence[Check] = ()) -> JobCheck:
    """What posting the job would tell. No job is made; the live checks may ask each provider for a few words."""
    posted = Posted(context, starts.pinned(context, request), known_prices(context))
    findings = all_findings(posted, more)
    errors = [problem for problem in findings.problems if problem.is_error]
    warnings = [problem for problem in findings.problems if not problem.is_error]
    known = not errors and posted.prices is not None
    return JobCheck(
        ok=not errors,
        errors=list(errors),
        warnings=list(warnings),
        checked=findings.right,
        estimate=estimate_of(posted) if known else None,
    )


def canary(posted: Posted) -> Iterator[Problem | str]:
    """The version can be tried as the job says."""
    terms = posted.spec.canary
    for problem in () if terms is None else canary_problems(posted.context, terms):
        message = (problem.message or "").removeprefix(f"{problem.param}: ")
        param = f"distillation.canary.{problem.param}"
        yield problem.model_copy(update={"param": param, "message": f"{param}: {message}"})


def webhook(posted: Posted) -> Iterator[Problem | str]:
    """The webhook leads to a public address."""
    if posted.request.webhook is not None:
        try:
            webhooks.refuse_address(posted.context, posted.request.webhook.url, "webhook.url")
        except UserError as error:
            yield Problem.of(error)


def gateway(posted: Posted) -> Iterator[Problem | str]:
    """The gateway says which providers there are."""
    if posted.prices is None and posted.asks:
        yield warning("gateway_unavailable", UNCHECKED)


def known_prices(context: ApiContext) -> dict[str, Price] | None:
    """Provider -> price; None while the gateway is unavailable. The job is accepted all the same, since start-up order must
    not matter; a provider that does not exist fails it at its first call, before any cost."""
    try:
        return context.providers.all_prices()
    except GatewayUnavailable as error:
        log.warning("providers not checked", error=error.message)
        return None


def job_request(body: dict) -> JobRequest:
    """A job's body that this program assembled, as far as it can be read. Raises Refused with all that is wrong with it."""
    reading = read(JobRequest, body)
    if reading.value is None:
        raise Refused(reading.problems)
    reading.value._faults = reading.problems
    return reading.value


def change(context: ProjectContext, job_id: str, change: JobChange) -> JobObject:
    """Raises Conflict on a new budget for a job that has ended, UserError on metadata that would leave its experiment."""
    record = lifecycle.record(context, job_id)
    request = JobRequest.model_validate(record.request)
    budget = change.distillation.budget if change.distillation.budget.model_fields_set else None
    if change.metadata is not None and _experiment(change.metadata) != _experiment(request.metadata):
        names = f"{EXPERIMENT!r} and {VARIANT!r}"
        raise UserError(f"metadata: {names} name the job's experiment and cannot be changed", param="metadata")
    return lifecycle.show(context, lifecycle.change(context, record, budget, change.metadata))


def _experiment(metadata: Mapping[str, str]) -> tuple[str | None, str | None]:
    return metadata.get(EXPERIMENT), metadata.get(VARIANT)


# What is on its way, in the words of OpenAI's types, by which strict clients read a job; `distillation.status` is exact.
AS_OPENAI_SAYS = {JobStatus.CANCELLING: JobStatus.CANCELLED, JobStatus.PAUSING: JobStatus.RUNNING}


def as_objects(context: ProjectContext, records: Sequence[JobRecord]) -> list[JobObject]:
    places = places_in_queue(context, records)
    usages = context.ledger.usages([record.id for record in records])
    return [_as_object(context, record, places.get(record.id), usages[record.id]) for record in records]


def _as_object(context: ProjectContext, job: JobRecord, place: QueuePlace | None, usage: Usage) -> JobObject:
    request = JobRequest.model_validate(job.request)
    progress = job.progress
    if job.status == JobStatus.PAUSED:
        progress = progress.model_copy(update=dict.fromkeys(ETA))  # unknown until it resumes
    eta = progress.eta_seconds if job.status not in FINAL_JOBS else None
    shared = common_fields(job)
    if context.openai_names:
        shared["status"] = AS_OPENAI_SAYS.get(job.status, job.status)
    return JobObject(
        **shared,
        estimated_finish=None if eta is None else int(time.time() + eta),
        model=request.model,
        fine_tuned_model=job.fine_tuned_model,
        organization_id=job.project_id,
        hyperparameters=request.hyperparameters,
        method=method_of(request),
        training_file=request.training_file,
        validation_file=request.validation_file,
        result_files=(job.result or {}).get("result_files", []),
        seed=request.seed,
        suffix=request.suffix,
        trained_tokens=job.trained_tokens,
        metadata=request.metadata,
        webhook=request.webhook,
        integrations=request.integrations or [],
        distillation=JobDistillation.model_construct(  # of values that are valid already
            **dict(request.distillation),
            forked_from=job.forked_from,
            status=job.status,
            phase=job.phase,
            status_reason=job.status_reason,
            failure=job.failure,
            queue=place,
            progress=progress,
            usage=usage,
            estimate=job.estimate,
            evaluation_result=job.evaluation,
        ),
    )


lifecycle = JobLifecycle(JobKind.DISTILLATION, "job", as_objects)
