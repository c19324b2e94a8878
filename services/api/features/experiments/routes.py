"""/v1/experiments"""

from fastapi import Response

from services.api.deps import Context, Id, Page, needs
from services.api.features.experiments import service as experiments
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.experiments import ExperimentObject, ExperimentReport, ExperimentRequest
from shared.contracts.keys import Scope
from shared.contracts.views import Listed

router = Router(prefix="/v1/experiments", tags=["experiments"], dependencies=[needs(Scope.JOBS)])


@router.post("", status_code=201, dependencies=[once], responses=may_answer(409, 422))
def create_experiment(context: Context, body: ExperimentRequest, response: Response) -> ExperimentObject:
    experiment = experiments.create(context, body)
    response.headers["location"] = f"/v1/experiments/{experiment.id}"
    return experiment


@router.get("")
def list_experiments(context: Context, paging: Page) -> Listed[ExperimentObject]:
    return experiments.page(context, paging)


@router.get("/{experiment_id}")
def get_experiment(context: Context, experiment_id: Id) -> ExperimentObject:
    return experiments.get(context, experiment_id)


@router.get("/{experiment_id}/report")
def get_experiment_report(context: Context, experiment_id: Id) -> ExperimentReport:
    """The comparison alone. It grows as variants end; `compared` of `variants` are in it."""
    return experiments.report(context, experiment_id)


@router.post("/{experiment_id}/cancel", dependencies=[once], responses=may_answer(409, 422))
def cancel_experiment(context: Context, experiment_id: Id) -> ExperimentObject:
    return experiments.cancel(context, experiment_id)
