"""/v1/evals, as OpenAI's client knows them: evals, their runs, and the rows of a run."""

from typing import Annotated, Literal

from fastapi import Query, Response

from services.api.deps import Context, Id, Page, needs
from services.api.features.evals import service as evals
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.eval_results import EvalRunObject, OutputItem, RunDeleted, RunStatus
from shared.contracts.evals import EvalChange, EvalDeleted, EvalObject, EvalRequest, RunRequest
from shared.contracts.keys import Scope
from shared.contracts.views import Listed

EVALS = "/v1/evals"
RUNS = EVALS + "/{eval_id}/runs"
ITEMS = RUNS + "/{run_id}/output_items"
Order = Annotated[Literal["asc", "desc"], Query(description="by time of creation; asc: oldest first")]

router = Router(tags=["evals"], dependencies=[needs(Scope.JOBS)])


@router.post(EVALS, status_code=201, dependencies=[once], responses=may_answer(409, 422))
def create_eval(context: Context, body: EvalRequest, response: Response) -> EvalObject:
    """An eval is a set of graders. Nothing is measured before a run."""
    made = evals.create(context, body)
    response.headers["location"] = f"{EVALS}/{made.id}"
    return made


@router.get(EVALS)
def list_evals(
    context: Context,
    paging: Page,
    order: Order = "asc",
    order_by: Annotated[Literal["created_at", "updated_at"], Query()] = "created_at",
) -> Listed[EvalObject]:
    return evals.page(context, paging, order, order_by)


@router.get(EVALS + "/{eval_id}")
def get_eval(context: Context, eval_id: Id) -> EvalObject:
    return evals.get(context, eval_id)


@router.post(EVALS + "/{eval_id}", dependencies=[once], responses=may_answer(409, 422))
def change_eval(context: Context, eval_id: Id, body: EvalChange) -> EvalObject:
    """Name and metadata. Graders stay as they are, so that runs can be compared."""
    return evals.change(context, eval_id, body)


@router.delete(EVALS + "/{eval_id}", responses=may_answer(409))
def delete_eval(context: Context, eval_id: Id) -> EvalDeleted:
    """With its runs. Refused while one of them is under way."""
    context.stores.evals.delete(context.project, eval_id)
    return EvalDeleted(eval_id=eval_id)


@router.post(RUNS, status_code=201, dependencies=[once], responses=may_answer(409, 422))
def create_eval_run(context: Context, eval_id: Id, body: RunRequest, response: Response) -> EvalRunObject:
    """A run is a job: it survives crashes, and its calls to a strong model are on the ledger."""
    made = evals.create_run(context, eval_id, body)
    response.headers["location"] = f"{EVALS}/{eval_id}/runs/{made.id}"
    return made


@router.get(RUNS)
def list_eval_runs(
    context: Context,
    eval_id: Id,
    paging: Page,
    order: Order = "asc",
    status: Annotated[RunStatus | None, Query()] = None,
) -> Listed[EvalRunObject]:
    return evals.runs(context, eval_id, paging, order, status)


@router.get(RUNS + "/{run_id}")
def get_eval_run(context: Context, eval_id: Id, run_id: Id) -> EvalRunObject:
    return evals.run(context, eval_id, run_id)


@router.post(RUNS + "/{run_id}/cancel", dependencies=[once], responses=may_answer(409, 422))
def cancel_eval_run(context: Context, eval_id: Id, run_id: Id) -> EvalRunObject:
    return evals.cancel(context, eval_id, run_id)


@router.delete(RUNS + "/{run_id}", responses=may_answer(409))
def delete_eval_run(context: Context, eval_id: Id, run_id: Id) -> RunDeleted:
    """Refused while it is under way."""
    context.stores.evals.delete_run(context.project, eval_id, run_id)
    return RunDeleted(run_id=run_id)


@router.get(ITEMS)
def list_output_items(
    context: Context,
    eval_id: Id,
    run_id: Id,
    paging: Page,
    order: Order = "asc",
    status: Annotated[Literal["pass", "fail", "error"] | None, Query()] = None,
) -> Listed[OutputItem]:
    """Each row with what was asked, answered, and found by each criterion; once the run is completed."""
    return evals.items(context, eval_id, run_id, paging, order, status)


@router.get(ITEMS + "/{output_item_id}")
def get_output_item(context: Context, eval_id: Id, run_id: Id, output_item_id: Id) -> OutputItem:
    return evals.item(context, eval_id, run_id, output_item_id)
