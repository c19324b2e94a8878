"""/v1/experiments"""

from typing import Any

from fastapi import APIRouter, Response

from services.api.deps import Context, KeyId, Project, needs
from services.api.features.experiments import service as experiments
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.responses.lists import DEFAULT_LIMIT, After, Id, Limit, listed
from shared.contracts.experiments import ExperimentObject, ExperimentReport, ExperimentRequest
from shared.contracts.keys import Scope
from shared.contracts.views import Listed

router = APIRouter(prefix="/v1/experiments", tags=["experiments"], dependencies=[needs(Scope.JOBS)])


@router.post("", status_code=201, response_model=ExperimentObject, dependencies=[once], responses=may_answer(409, 422))
def create_experiment(
    context: Context, project: Project, key_id: KeyId, body: ExperimentRequest, response: Response
) -> ExperimentObject:
    experiment = experiments.create(context, project, body, key_id)
    response.headers["location"] = f"/v1/experiments/{experiment.id}"
    return experiment


@router.get("", response_model=Listed[ExperimentObject])
def list_experiments(
    context: Context, project: Project, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> dict[str, Any]:
    return listed(*experiments.page(context, project, after, limit))


@router.get("/{experiment_id}", response_model=ExperimentObject)
def get_experiment(context: Context, project: Project, experiment_id: Id) -> ExperimentObject:
    return experiments.get(context, project, experiment_id)


@router.get("/{experiment_id}/report", response_model=ExperimentReport)
def get_experiment_report(context: Context, project: Project, experiment_id: Id) -> ExperimentReport:
    """The comparison alone. It grows as variants end; `compared` of `variants` are in it."""
    return experiments.report(context, project, experiment_id)


@router.post(
    "/{experiment_id}/cancel", response_model=ExperimentObject, dependencies=[once], responses=may_answer(409, 422)
)
def cancel_experiment(context: Context, project: Project, experiment_id: Id) -> ExperimentObject:
    return experiments.cancel(context, project, experiment_id)
