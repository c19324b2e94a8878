"""/v1/models/{alias}/canary"""

from fastapi import APIRouter

from services.api.deps import Context, Id, needs
from services.api.features.canaries import service as canaries
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from shared.contracts.canary import CanaryDeleted, CanaryObject, CanaryRequest
from shared.contracts.keys import Scope

router = APIRouter(prefix="/v1/models/{alias}/canary", tags=["models"], dependencies=[needs(Scope.JOBS)])


@router.post("", dependencies=[once], responses=may_answer(409, 422))
def set_canary(context: Context, alias: Id, body: CanaryRequest) -> CanaryObject:
    """Try a version beside the served one, or change how. It ends when the alias moves."""
    return canaries.put(context, alias, body)


@router.get("")
def get_canary(context: Context, alias: Id) -> CanaryObject:
    return canaries.get(context, alias)


@router.delete("")
def end_canary(context: Context, alias: Id) -> CanaryDeleted:
    return canaries.end(context, alias)
