"""/v1/distillation/jobs, and the same store under /v1/fine_tuning/jobs for those who speak OpenAI's names."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from services.api.document import may_answer
from services.api.handlers.access import Context, Project, needs
from services.api.handlers.lists import DEFAULT_LIMIT, After, Id, Limit, listed
from services.api.service import estimates, forks, jobs, lineage
from shared.contracts.errors import UserError
from shared.contracts.estimate import Estimate
from shared.contracts.jobs import ForkRequest, JobChange, JobObject, JobRequest, JobStatus
from shared.contracts.keys import Scope
from shared.contracts.views import JobUsage, LineageObject, Listed, StepObject

METADATA = re.compile(r"^metadata\[([^\[\]\"\\]{1,64})\]$")

router = APIRouter(tags=["jobs"], dependencies=[needs(Scope.JOBS)])


@router.post("/v1/distillation/jobs", status_code=201)
def create_job(context: Context, project: Project, body: JobRequest, response: Response) -> JobObject:
    job = jobs.create(context, project, body)
    response.headers["location"] = f"/v1/distillation/jobs/{job.id}"
    return job


@router.post("/v1/distillation/jobs/estimate")
def estimate_job(context: Context, project: Project, body: JobRequest) -> Estimate:
    """What this job would cost, before anything is asked or paid. No job is made."""
    return estimates.estimate_job(context, project, body)


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


@router.get("/v1/distillation/jobs", response_model=Listed[JobObject])
@router.get("/v1/fine_tuning/jobs", response_model=Listed[JobObject])
def list_jobs(
    request: Request,
    context: Context,
    project: Project,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
    status: Annotated[JobStatus | None, Query()] = None,
) -> dict[str, Any]:
    return listed(*jobs.page(context, project, after, limit, status, metadata_filter(request)))


@router.get("/v1/distillation/jobs/{job_id}")
@router.get("/v1/fine_tuning/jobs/{job_id}")
def get_job(context: Context, project: Project, job_id: Id) -> JobObject:
    return jobs.get(context, project, job_id)


@router.patch("/v1/distillation/jobs/{job_id}", responses=may_answer(409))
def change_job(context: Context, project: Project, job_id: Id, body: JobChange) -> JobObject:
    """Budget and metadata. A job that waits for its budget goes on."""
    return jobs.change(context, project, job_id, body)


@router.post("/v1/distillation/jobs/{job_id}/cancel", responses=may_answer(409))
@router.post("/v1/fine_tuning/jobs/{job_id}/cancel", responses=may_answer(409))
def cancel_job(context: Context, project: Project, job_id: Id) -> JobObject:
    return jobs.cancel(context, project, job_id)


@router.post("/v1/distillation/jobs/{job_id}/pause", responses=may_answer(409))
@router.post("/v1/fine_tuning/jobs/{job_id}/pause", responses=may_answer(409))
def pause_job(context: Context, project: Project, job_id: Id) -> JobObject:
    return jobs.pause(context, project, job_id)


@router.post("/v1/distillation/jobs/{job_id}/resume", responses=may_answer(409))
@router.post("/v1/fine_tuning/jobs/{job_id}/resume", responses=may_answer(409))
def resume_job(context: Context, project: Project, job_id: Id) -> JobObject:
    return jobs.resume(context, project, job_id)


@router.post("/v1/distillation/jobs/{job_id}/fork", status_code=201, responses=may_answer(409))
def fork_job(context: Context, project: Project, job_id: Id, body: ForkRequest, response: Response) -> JobObject:
    """A new job with this one's settings and changes to them; what both have in common is taken over."""
    job = forks.fork(context, project, job_id, body)
    response.headers["location"] = f"/v1/distillation/jobs/{job.id}"
    return job


@router.get("/v1/distillation/jobs/{job_id}/report")
def get_report(context: Context, project: Project, job_id: Id) -> dict[str, Any]:
    return jobs.report(context, project, job_id)


@router.get("/v1/distillation/jobs/{job_id}/usage", response_model=JobUsage)
def get_usage(context: Context, project: Project, job_id: Id) -> dict[str, Any]:
    return jobs.usage(context, project, job_id)


@router.get("/v1/distillation/jobs/{job_id}/steps", response_model=Listed[StepObject])
def list_steps(context: Context, project: Project, job_id: Id) -> dict[str, Any]:
    return listed(jobs.steps(context, project, job_id))


@router.get("/v1/distillation/jobs/{job_id}/examples/{example_id:path}/lineage", response_model=LineageObject)
def get_lineage(context: Context, project: Project, job_id: Id, example_id: Id) -> dict[str, Any]:
    return lineage.lineage(context, project, job_id, example_id)
