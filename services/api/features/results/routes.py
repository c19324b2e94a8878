"""What a job has made and counted: its report, figures, cost, versions, and the rows that it works on."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from services.api.deps import Context, Project, needs
from services.api.features.jobs import service as jobs
from services.api.features.results import lineage, report_page
from services.api.features.results import service as insight
from services.api.responses.etags import UNCHANGED, IfNoneMatch, tagged
from services.api.responses.lists import DEFAULT_LIMIT, After, Id, Limit, listed
from shared.contracts.data import Split
from shared.contracts.keys import Scope
from shared.contracts.report import read_report
from shared.contracts.views import (
    CheckpointObject,
    ExampleObject,
    JobUsage,
    LineageObject,
    Listed,
    MetricsObject,
    StepObject,
)

OURS, OPENAIS = "/v1/distillation/jobs/{job_id}", "/v1/fine_tuning/jobs/{job_id}"

HTML = "text/html"
AS_PAGE: dict[int | str, dict[str, Any]] = {200: {"content": {HTML: {"schema": {"type": "string"}}}}}
BY_ACCEPT = {"vary": "accept"}
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

router = APIRouter(tags=["jobs"], dependencies=[needs(Scope.JOBS)])


@router.get(OURS + "/report", response_model=dict[str, Any], responses=UNCHANGED | AS_PAGE)
@router.get(OPENAIS + "/report", response_model=dict[str, Any], responses=UNCHANGED | AS_PAGE)
def get_report(
    context: Context,
    project: Project,
    job_id: Id,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    if_none_match: IfNoneMatch = None,
) -> Response:
    """With `Accept: text/html` one page with plots, complete in itself: it loads nothing from anywhere."""
    found = jobs.report(context, project, job_id)
    if HTML not in accept.lower():
        return tagged(json.dumps(found).encode(), if_none_match, BY_ACCEPT)
    return tagged(
        report_page.page(read_report(found)).encode(), if_none_match, BY_ACCEPT | PAGE_HEADERS, f"{HTML}; charset=utf-8"
    )


@router.get(OURS + "/usage", response_model=JobUsage)
@router.get(OPENAIS + "/usage", response_model=JobUsage)
def get_usage(context: Context, project: Project, job_id: Id) -> dict[str, Any]:
    return jobs.usage(context, project, job_id)


@router.get(OURS + "/metrics", response_model=Listed[MetricsObject])
@router.get(OPENAIS + "/metrics", response_model=Listed[MetricsObject])
def list_metrics(
    context: Context, project: Project, job_id: Id, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> dict[str, Any]:
    """What the steps have counted so far: losses and speeds of trainings, scores of measurements, lengths of answers."""
    return listed(*insight.metrics(context, project, job_id, after, limit))


@router.get(OURS + "/checkpoints", response_model=Listed[CheckpointObject])
@router.get(OPENAIS + "/checkpoints", response_model=Listed[CheckpointObject])
def list_checkpoints(
    context: Context, project: Project, job_id: Id, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> dict[str, Any]:
    """The versions that the job has published, each of which can be asked. Those of a running job are none yet."""
    return listed(*insight.checkpoints(context, project, job_id, after, limit))


@router.get(OURS + "/steps", response_model=Listed[StepObject])
@router.get(OPENAIS + "/steps", response_model=Listed[StepObject])
def list_steps(context: Context, project: Project, job_id: Id) -> dict[str, Any]:
    return listed(jobs.steps(context, project, job_id))


@router.get(OURS + "/examples", response_model=Listed[ExampleObject])
@router.get(OPENAIS + "/examples", response_model=Listed[ExampleObject])
def list_examples(
    context: Context,
    project: Project,
    job_id: Id,
    split: Annotated[Split | None, Query()] = None,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
) -> dict[str, Any]:
    """The rows of the job's file with the side of the split that each stands on, in the file's order."""
    return listed(*insight.examples(context, project, job_id, split, after, limit))


@router.get(OURS + "/examples/{example_id:path}/lineage", response_model=LineageObject)
@router.get(OPENAIS + "/examples/{example_id:path}/lineage", response_model=LineageObject)
def get_lineage(context: Context, project: Project, job_id: Id, example_id: Id) -> dict[str, Any]:
    return lineage.lineage(context, project, job_id, example_id)
