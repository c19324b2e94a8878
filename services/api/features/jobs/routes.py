"""/v1/distillation/jobs, and the same store under /v1/fine_tuning/jobs for those who speak OpenAI's names."""

import asyncio
import contextlib
import re
import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from services.api.context import ApiContext
from services.api.deps import Context, KeyId, Project, needs
from services.api.features.events.hub import EventHub, Hub
from services.api.features.jobs import estimates, fine_tuning, forks
from services.api.features.jobs import service as jobs
from services.api.middleware.idempotency import is_kept, once
from services.api.openapi_document import may_answer
from services.api.responses.etags import UNCHANGED, IfNoneMatch, tagged
from services.api.responses.lists import DEFAULT_LIMIT, After, Id, Limit, listed
from shared.contracts.errors import UserError
from shared.contracts.estimate import Estimate
from shared.contracts.fine_tuning import FineTuningRequest
from shared.contracts.jobs import ForkRequest, JobChange, JobObject, JobRequest, JobStatus
from shared.contracts.keys import Scope
from shared.contracts.views import Listed
from shared.jobs.states import FINAL_JOBS

METADATA = re.compile(r"^metadata\[([^\[\]\"\\]{1,64})\]$")
WAIT = re.compile(r"(?:^|[,;]\s*)wait\s*=\s*(\d{1,9})", re.IGNORECASE)
LONGEST_WAIT_S = 60
STILL_THERE_S = 1.0  # so often it is seen whether who waits has gone
OURS, OPENAIS = "/v1/distillation/jobs", "/v1/fine_tuning/jobs"

router = APIRouter(tags=["jobs"], dependencies=[needs(Scope.JOBS)])


@router.post(OURS, status_code=201, dependencies=[once], responses=may_answer(409, 422))
def create_job(
    request: Request, context: Context, project: Project, key_id: KeyId, body: JobRequest, response: Response
) -> JobObject:
    return _made(request, jobs.create(context, project, body, key_id=key_id), response)


@router.post(OPENAIS, status_code=201, dependencies=[once], responses=may_answer(409, 422))
def create_fine_tuning_job(
    request: Request, context: Context, project: Project, key_id: KeyId, body: FineTuningRequest, response: Response
) -> JobObject:
    """Without a `distillation` object: supervised training on the file's own answers. No teacher is asked."""
    job = jobs.create(context, project, fine_tuning.job_of(context, project, body), key_id=key_id)
    return _made(request, job, response, OPENAIS)


@router.post(OURS + "/estimate")
def estimate_job(context: Context, project: Project, body: JobRequest) -> Estimate:
    """What this job would cost, before anything is asked or paid. No job is made."""
    return estimates.estimate_job(context, project, body)


@router.post(OPENAIS + "/estimate")
def estimate_fine_tuning_job(context: Context, project: Project, body: FineTuningRequest) -> Estimate:
    """Of a job without a `distillation` object: nothing. What it takes is time."""
    return estimates.estimate_job(context, project, fine_tuning.job_of(context, project, body))


def _made(request: Request, job: JobObject, response: Response, path: str = OURS) -> JobObject:
    if is_kept(request):
        job.webhook_secret = None
    response.headers["location"] = f"{path}/{job.id}"
    return job


def metadata_filter(request: Request) -> dict[str, str]:
    """The `metadata[name]=value` pairs of the query."""
    found = {}
    for name, value in request.query_params.items():
        if name.startswith("metadata"):
            match = METADATA.match(name)
            if match is None:
                raise UserError(f"{name[:100]!r}: write metadata[name]=value", param="metadata", code="invalid_value")
            found[match.group(1)] = value
    return found


@router.get(OURS, response_model=Listed[JobObject])
@router.get(OPENAIS, response_model=Listed[JobObject])
def list_jobs(
    request: Request,
    context: Context,
    project: Project,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
    status: Annotated[JobStatus | None, Query()] = None,
) -> dict[str, Any]:
    return listed(*jobs.page(context, project, after, limit, status, metadata_filter(request)))


@router.get(OURS + "/{job_id}", response_model=JobObject, responses=UNCHANGED)
@router.get(OPENAIS + "/{job_id}", response_model=JobObject, responses=UNCHANGED)
async def get_job(
    request: Request,
    context: Context,
    hub: Hub,
    project: Project,
    job_id: Id,
    wait: Annotated[float | None, Query(ge=0, le=LONGEST_WAIT_S, allow_inf_nan=False)] = None,
    prefer: Annotated[str, Header(max_length=200)] = "",
    if_none_match: IfNoneMatch = None,
) -> Response:
    """With `?wait=30` or `Prefer: wait=30` it answers when the job's status changes, after so many seconds at the latest, and at
    once where the job has ended."""
    seconds = preferred_wait(prefer) if wait is None else wait
    job = await run_in_threadpool(jobs.get, context, project, job_id)
    if seconds:
        job = await _when_changed(request, context, hub, project, job, seconds)
    headers = {"preference-applied": f"wait={seconds:g}"} if seconds and wait is None else {}
    return tagged(job.model_dump_json().encode(), if_none_match, headers)


async def _when_changed(
    request: Request, context: ApiContext, hub: EventHub, project: str, job: JobObject, wait_s: float
) -> JobObject:
    """The job once its status is another, it has ended, the time is over or the client has gone. A change is an event: the look
    into the store that serves all streams serves those who wait here, too."""
    latest, before = time.monotonic() + wait_s, job.status
    if before in FINAL_JOBS:
        return job
    hub.refuse_if_full()
    async with hub.joined(job.id) as channel:
        while True:
            news = channel.news
            job = await run_in_threadpool(jobs.get, context, project, job.id)
            if job.status != before:
                return job
            while not news.is_set():
                left = latest - time.monotonic()
                if left <= 0 or await request.is_disconnected():
                    return job
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, STILL_THERE_S)):
                        await news.wait()


def preferred_wait(prefer: str) -> float:
    """Seconds of `Prefer: wait=N` (RFC 7240), no more than are granted; 0 without it. Other preferences are left alone."""
    found = WAIT.search(prefer)
    return min(float(found.group(1)), LONGEST_WAIT_S) if found else 0.0


@router.patch(OURS + "/{job_id}", dependencies=[once], responses=may_answer(409, 422))
@router.patch(OPENAIS + "/{job_id}", dependencies=[once], responses=may_answer(409, 422))
def change_job(context: Context, project: Project, job_id: Id, body: JobChange) -> JobObject:
    """Budget and metadata. A job that waits for its budget goes on."""
    return jobs.change(context, project, job_id, body)


@router.post(OURS + "/{job_id}/cancel", dependencies=[once], responses=may_answer(409, 422))
@router.post(OPENAIS + "/{job_id}/cancel", dependencies=[once], responses=may_answer(409, 422))
def cancel_job(context: Context, project: Project, job_id: Id) -> JobObject:
    return jobs.cancel(context, project, job_id)


@router.post(OURS + "/{job_id}/pause", dependencies=[once], responses=may_answer(409, 422))
@router.post(OPENAIS + "/{job_id}/pause", dependencies=[once], responses=may_answer(409, 422))
def pause_job(context: Context, project: Project, job_id: Id) -> JobObject:
    return jobs.pause(context, project, job_id)


@router.post(OURS + "/{job_id}/resume", dependencies=[once], responses=may_answer(409, 422))
@router.post(OPENAIS + "/{job_id}/resume", dependencies=[once], responses=may_answer(409, 422))
def resume_job(context: Context, project: Project, job_id: Id) -> JobObject:
    return jobs.resume(context, project, job_id)


@router.post(OURS + "/{job_id}/fork", status_code=201, dependencies=[once], responses=may_answer(409, 422))
@router.post(OPENAIS + "/{job_id}/fork", status_code=201, dependencies=[once], responses=may_answer(409, 422))
def fork_job(
    request: Request,
    context: Context,
    project: Project,
    key_id: KeyId,
    job_id: Id,
    body: ForkRequest,
    response: Response,
) -> JobObject:
    """A new job with this one's settings and changes to them; what both have in common is taken over."""
    path = OPENAIS if request.url.path.startswith(OPENAIS) else OURS
    return _made(request, forks.fork(context, project, job_id, body, key_id), response, path)
