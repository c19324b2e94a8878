"""The results of a job: its report, figures, cost and versions, and the rows that it works on."""

import json
from typing import Annotated, Any

from fastapi import Header, Query, Response

from services.api.deps import Context, Id, Page, needs
from services.api.features.results import lineage, outcomes, report_page
from services.api.features.results import service as results
from services.api.openapi_document import Responses
from services.api.responses.etags import UNCHANGED, IfNoneMatch, tagged
from services.api.responses.page_policy import page_headers
from services.api.router import Router
from shared.contracts.data import Split
from shared.contracts.distillation import NO_NUL
from shared.contracts.keys import Scope
from shared.contracts.outcomes import Happened, Order, OutcomeObject
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
AS_PAGE: Responses = {200: {"content": {HTML: {"schema": {"type": "string"}}}}}
BY_ACCEPT = {"vary": "accept"}

router = Router(tags=["jobs"], dependencies=[needs(Scope.JOBS)])


@router.get(OURS + "/report", response_model=dict[str, Any], responses=UNCHANGED | AS_PAGE)
@router.get(OPENAIS + "/report", response_model=dict[str, Any], responses=UNCHANGED | AS_PAGE)
def get_report(
    context: Context,
    job_id: Id,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    if_none_match: IfNoneMatch = None,
) -> Response:
    """With `Accept: text/html` the report is one self-contained page with plots."""
    report = results.report(context, job_id)
    if HTML not in accept.lower():
        return tagged(json.dumps(report).encode(), if_none_match, BY_ACCEPT)
    headers = BY_ACCEPT | page_headers("style-src 'unsafe-inline'")
    return tagged(report_page.page(read_report(report)).encode(), if_none_match, headers, f"{HTML}; charset=utf-8")


@router.get(OURS + "/usage")
@router.get(OPENAIS + "/usage")
def get_usage(context: Context, job_id: Id) -> JobUsage:
    return results.usage(context, job_id)


@router.get(OURS + "/metrics")
@router.get(OPENAIS + "/metrics")
def list_metrics(context: Context, job_id: Id, paging: Page) -> Listed[MetricsObject]:
    """The figures of the job's steps so far: losses and speeds of trainings, scores of measurements, lengths of answers."""
    return results.metrics(context, job_id, paging)


@router.get(OURS + "/checkpoints")
@router.get(OPENAIS + "/checkpoints")
def list_checkpoints(context: Context, job_id: Id, paging: Page) -> Listed[CheckpointObject]:
    """The versions that the job has published; each can be asked. A running job has none yet."""
    return results.checkpoints(context, job_id, paging)


@router.get(OURS + "/steps")
@router.get(OPENAIS + "/steps")
def list_steps(context: Context, job_id: Id) -> Listed[StepObject]:
    return results.steps(context, job_id)


@router.get(OURS + "/examples")
@router.get(OPENAIS + "/examples")
def list_examples(
    context: Context, job_id: Id, paging: Page, split: Annotated[Split | None, Query()] = None
) -> Listed[ExampleObject]:
    """The rows of the job's file, in the file's order, each with its split."""
    return results.examples(context, job_id, paging, split)


@router.get(OURS + "/outcomes")
@router.get(OPENAIS + "/outcomes")
def list_outcomes(
    context: Context,
    job_id: Id,
    paging: Page,
    split: Annotated[Split | None, Query()] = None,
    happened: Annotated[Happened | None, Query()] = None,
    round_number: Annotated[int | None, Query(alias="round", ge=1, le=1000)] = None,
    attempt: Annotated[int | None, Query(ge=1, le=1000)] = None,
    search: Annotated[str | None, Query(max_length=200, pattern=NO_NUL)] = None,
    order: Annotated[Order, Query()] = Order.FILE,
) -> Listed[OutcomeObject]:
    """The outcome of each of the job's examples so far: tries and their verdicts, why it was dropped, which trainings learned it, what
    the judge said, and the answers of the measured students. round, attempt: of phase 2. search: a part of the id, question, reference
    or category."""
    return outcomes.page(context, job_id, paging, split, happened, round_number, attempt, search, order)


@router.get(OURS + "/examples/{example_id:path}/lineage")
@router.get(OPENAIS + "/examples/{example_id:path}/lineage")
def get_lineage(context: Context, job_id: Id, example_id: Id) -> LineageObject:
    return lineage.lineage(context, job_id, example_id)
