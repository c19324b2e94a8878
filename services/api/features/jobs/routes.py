"""/v1/distillation/jobs, and the same jobs under OpenAI's names at /v1/fine_tuning/jobs."""

import asyncio
import contextlib
import re
import time
from typing import Annotated, NamedTuple

from fastapi import Depends, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from services.api.context import ProjectContext
from services.api.deps import Context, Id, Page, needs
from services.api.features.events.hub import EventHub, Hub
from services.api.features.jobs import estimates, fine_tuning, forks
from services.api.features.jobs import service as jobs
from services.api.features.jobs.lifecycle_routes import add_control_routes
from services.api.metadata_query import metadata_pairs
from services.api.middleware.idempotency import is_stored, once
from services.api.openapi_document import may_answer
from services.api.responses.etags import UNCHANGED, IfNoneMatch, tagged
from services.api.router import Router
from shared.contracts.estimate import Estimate
from shared.contracts.faults import as_far_as_readable
from shared.contracts.fine_tuning import FineTuningRequest
from shared.contracts.jobs import ForkRequest, JobChange, JobCheck, JobObject, JobRequest, JobStatus
from shared.contracts.keys import Scope
from shared.contracts.views import Listed
from shared.jobs.states import FINAL_JOBS

WAIT = re.compile(r"(?:^|[,;]\s*)wait\s*=\s*(\d{1,9})", re.IGNORECASE)
LONGEST_WAIT_S = 60
CHECK_CLIENT_EVERY_S = 1.0
OURS, OPENAIS = "/v1/distillation/jobs", "/v1/fine_tuning/jobs"

JobBody = Annotated[JobRequest, as_far_as_readable(JobRequest)]
FineTuningBody = Annotated[FineTuningRequest, as_far_as_readable(FineTuningRequest)]

router = Router(tags=["jobs"], dependencies=[needs(Scope.JOBS)])


def job_of(body: FineTuningRequest) -> JobRequest:
    """Raises RequestValidationError where it breaks a rule of our own request that OpenAI's fields do not have."""
    try:
        return body.job()
    except ValidationError as error:
        faults = [fault | {"loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        raise RequestValidationError(faults, body=body.model_dump(mode="json", exclude_unset=True)) from None


@router.post(OURS, status_code=201, dependencies=[once], responses=may_answer(409, 422))
def create_job(request: Request, context: Context, body: JobBody, response: Response) -> JobObject:
    return _created(request, jobs.create(context, body), response)


@router.post(OPENAIS, status_code=201, dependencies=[once], responses=may_answer(409, 422))
def create_fine_tuning_job(request: Request, context: Context, body: FineTuningBody, response: Response) -> JobObject:
    """Without a `distillation` object: supervised training on the file's own answers. No teacher is asked."""
    job = jobs.create(context, job_of(body), more=[fine_tuning.checks_of(body)])
    return _created(request, job, response, OPENAIS)


@router.post(OURS + "/estimate")
def estimate_job(context: Context, body: JobBody) -> Estimate:
    """What this job would cost, before anything is asked or paid. No job is made."""
    return estimates.estimate_job(context, body)


@router.post(OPENAIS + "/estimate")
def estimate_fine_tuning_job(context: Context, body: FineTuningBody) -> Estimate:
    """Calls and cost of a job without a `distillation` object are zero; its estimate has the time."""
    return estimates.estimate_job(context, job_of(body), [fine_tuning.checks_of(body)])


@router.post(OURS + "/check")
def check_job(context: Context, body: JobBody) -> JobCheck:
    """Everything that is checked when this job is posted. No job is made; teacher and judge are asked for a few words."""
    return jobs.check(context, body)


@router.post(OPENAIS + "/check")
def check_fine_tuning_job(context: Context, body: FineTuningBody) -> JobCheck:
    """The same for a job under OpenAI's names."""
    return jobs.check(context, job_of(body), [fine_tuning.checks_of(body)])


def _created(request: Request, job: JobObject, response: Response, path: str = OURS) -> JobObject:
    if is_stored(request):
        job.webhook_secret = None
    response.headers["location"] = f"{path}/{job.id}"
    return job


class JobFilter(NamedTuple):
    """metadata: pairs that a job must have; empty: jobs without metadata; None: whatever they have."""

    status: JobStatus | None
    metadata: dict[str, str] | None


async def job_filter(
    metadata: Annotated[dict[str, str] | None, Depends(metadata_pairs)],
    status: Annotated[JobStatus | None, Query()] = None,
) -> JobFilter:
    """The status and the `metadata[name]=value` pairs of the query; `metadata=null`, or empty: jobs without any."""
    return JobFilter(status, metadata)


@router.get(OURS)
@router.get(OPENAIS)
def list_jobs(context: Context, paging: Page, filter: Annotated[JobFilter, Depends(job_filter)]) -> Listed[JobObject]:
    return jobs.lifecycle.page(context, paging, *filter)


@router.get(OURS + "/{job_id}", response_model=JobObject, responses=UNCHANGED)
@router.get(OPENAIS + "/{job_id}", response_model=JobObject, responses=UNCHANGED)
async def get_job(
    request: Request,
    context: Context,
    hub: Hub,
    job_id: Id,
    wait: Annotated[float | None, Query(ge=0, le=LONGEST_WAIT_S, allow_inf_nan=False)] = None,
    prefer: Annotated[str, Header(max_length=200)] = "",
    if_none_match: IfNoneMatch = None,
) -> Response:
    """With `?wait=30` or `Prefer: wait=30` the answer comes when the job's status changes, at the latest after that many seconds, and
    at once if the job has ended."""
    seconds = preferred_wait(prefer) if wait is None else wait
    job = await run_in_threadpool(jobs.lifecycle.get, context, job_id)
    if seconds:
        job = await _when_changed(request, context, hub, job, seconds)
    headers = {"preference-applied": f"wait={seconds:g}"} if seconds and wait is None else {}
    return tagged(job.model_dump_json().encode(), if_none_match, headers)


async def _when_changed(
    request: Request, context: ProjectContext, hub: EventHub, job: JobObject, wait_s: float
) -> JobObject:
    """The job when its status changes, it has ended, the time is over or the client has disconnected. Every change of status is
    an event, so the query that serves all event streams serves these waits too."""
    deadline, status = time.monotonic() + wait_s, job.status
    if status in FINAL_JOBS:
        return job
    hub.refuse_if_full()
    async with hub.joined(job.id) as channel:
        while True:
            news = channel.news
            job = await run_in_threadpool(jobs.lifecycle.get, context, job.id)
            if job.status != status:
                return job
            while not news.is_set():
                left = deadline - time.monotonic()
                if left <= 0 or await request.is_disconnected():
                    return job
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, CHECK_CLIENT_EVERY_S)):
                        await news.wait()


def preferred_wait(prefer: str) -> float:
    """Seconds of `Prefer: wait=N` (RFC 7240), at most LONGEST_WAIT_S; 0 without it. Other preferences are ignored."""
    match = WAIT.search(prefer)
    return min(float(match.group(1)), LONGEST_WAIT_S) if match else 0.0


@router.patch(OURS + "/{job_id}", dependencies=[once], responses=may_answer(409, 422))
@router.patch(OPENAIS + "/{job_id}", dependencies=[once], responses=may_answer(409, 422))
def change_job(context: Context, job_id: Id, body: JobChange) -> JobObject:
    """Budget and metadata. A job that waits for its budget goes on."""
    return jobs.change(context, job_id, body)


add_control_routes(router, jobs.lifecycle, JobObject, OPENAIS, OURS)


@router.post(OURS + "/{job_id}/fork", status_code=201, dependencies=[once], responses=may_answer(409, 422))
@router.post(OPENAIS + "/{job_id}/fork", status_code=201, dependencies=[once], responses=may_answer(409, 422))
def fork_job(request: Request, context: Context, job_id: Id, body: ForkRequest, response: Response) -> JobObject:
    """A new job with this one's settings and changes to them. Finished steps that both have in common are reused."""
    path = OPENAIS if request.url.path.startswith(OPENAIS) else OURS
    return _created(request, forks.fork(context, job_id, body), response, path)
