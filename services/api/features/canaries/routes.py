"""/v1/models/{alias}/canary"""

from fastapi import APIRouter, Request

from services.api.deps import Context, Project, needs
from services.api.features.canaries import service as canaries
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.responses.lists import Id
from shared.contracts.canary import CanaryDeleted, CanaryObject, CanaryRequest
from shared.contracts.keys import Scope

router = APIRouter(prefix="/v1/models/{alias}/canary", tags=["models"], dependencies=[needs(Scope.JOBS)])


@router.post("", dependencies=[once], responses=may_answer(409, 422))
def set_canary(request: Request, context: Context, project: Project, alias: Id, body: CanaryRequest) -> CanaryObject:
    """Try a version beside the served one, or change how. It ends when the alias moves."""
    made = canaries.put(context, project, alias, body)
    request.app.state.signpost.forget()
    return made


@router.get("")
def get_canary(context: Context, project: Project, alias: Id) -> CanaryObject:
    return canaries.get(context, project, alias)


@router.delete("")
def end_canary(request: Request, context: Context, project: Project, alias: Id) -> CanaryDeleted:
    ended = canaries.end(context, project, alias)
    request.app.state.signpost.forget()
    return ended
