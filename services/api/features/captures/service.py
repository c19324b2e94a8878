"""Setting, showing and ending the capture of an alias."""

from services.api.context import ProjectContext
from shared.contracts.completions import CaptureDeleted, CaptureObject, CaptureRequest
from shared.contracts.errors import Conflict, NotFound
from shared.jobs.records import CaptureRecord


def put(context: ProjectContext, alias: str, request: CaptureRequest) -> CaptureObject:
    """Raises NotFound for an unknown alias, and Conflict where the settings store nothing."""
    _check(context, alias)
    if not context.settings.store_chats:
        raise Conflict("METEOR_API_STORE_CHATS is false, so no chat is stored", param="percent", code="storing_is_off")
    made = context.stores.captures.set(context.project, alias, request.percent, request.mask)
    context.model_router.forget()
    return _as_object(made)


def get(context: ProjectContext, alias: str) -> CaptureObject:
    capture = context.stores.captures.get(context.project, alias)
    if capture is None:
        raise _no_capture(context, alias)
    return _as_object(capture)


def end(context: ProjectContext, alias: str) -> CaptureDeleted:
    if not context.stores.captures.end(context.project, alias):
        raise _no_capture(context, alias)
    context.model_router.forget()
    return CaptureDeleted(id=alias)


def _check(context: ProjectContext, alias: str) -> None:
    if not context.stores.catalog.has_versions(context.project, alias):
        raise NotFound(
            f"no alias {alias!r}; GET /v1/models lists what is served", param="alias", code="model_not_found"
        )


def _no_capture(context: ProjectContext, alias: str) -> NotFound:
    _check(context, alias)
    return NotFound(f"{alias!r} has no capture", param="alias", code="capture_not_found")


def _as_object(capture: CaptureRecord) -> CaptureObject:
    return CaptureObject(
        id=capture.alias,
        alias=capture.alias,
        percent=capture.percent,
        mask=capture.mask,
        created_at=int(capture.created_at),
    )
