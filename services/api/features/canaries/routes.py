"""/v1/models/{alias}/canary"""

from services.api.deps import Context, Id, Page, needs
from services.api.features.canaries import service as canaries
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.canary import CanaryDeleted, CanaryObject, CanaryRequest
from shared.contracts.keys import Scope
from shared.contracts.notices import NoticeObject
from shared.contracts.views import Listed

router = Router(prefix="/v1/models/{alias}/canary", tags=["models"], dependencies=[needs(Scope.JOBS)])


@router.post("", dependencies=[once], responses=may_answer(409, 422))
def set_canary(context: Context, alias: Id, body: CanaryRequest) -> CanaryObject:
    """Try a version beside the served one, in place of the present canary. The canary ends when the alias moves. With a goal it decides
    by itself: it returns on harm, and is promoted otherwise if `promote` is true."""
    return canaries.put(context, alias, body)


@router.get("")
def get_canary(context: Context, alias: Id) -> CanaryObject:
    return canaries.get(context, alias)


@router.get("/events")
def list_canary_events(context: Context, alias: Id, paging: Page) -> Listed[NoticeObject]:
    """What happened to the canaries of the alias, also to those that have ended: started, step, returned, promoted, passed, undecided,
    moved, ended."""
    return canaries.events(context, alias, paging)


@router.delete("")
def end_canary(context: Context, alias: Id) -> CanaryDeleted:
    return canaries.end(context, alias)
