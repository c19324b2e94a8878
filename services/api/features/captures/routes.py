"""/v1/models/{alias}/capture: the share of an alias's chats that is stored without being asked for."""

from services.api.deps import Context, Id, needs
from services.api.features.captures import service as captures
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.completions import CaptureDeleted, CaptureObject, CaptureRequest
from shared.contracts.keys import Scope

router = Router(prefix="/v1/models/{alias}/capture", tags=["stored_chats"], dependencies=[needs(Scope.JOBS)])


@router.post("", dependencies=[once], responses=may_answer(409, 422))
def set_capture(context: Context, alias: Id, body: CaptureRequest) -> CaptureObject:
    """Store a share of the alias's chats, or change it."""
    return captures.put(context, alias, body)


@router.get("")
def get_capture(context: Context, alias: Id) -> CaptureObject:
    return captures.get(context, alias)


@router.delete("")
def end_capture(context: Context, alias: Id) -> CaptureDeleted:
    """Chats that are stored stay."""
    return captures.end(context, alias)
