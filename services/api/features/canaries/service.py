"""Setting, showing and ending canaries."""

from services.api.context import ProjectContext
from shared.contracts.canary import CanaryDeleted, CanaryObject, CanaryRequest
from shared.contracts.errors import NotFound
from shared.jobs.canary_store import Canary


def put(context: ProjectContext, alias: str, request: CanaryRequest) -> CanaryObject:
    """Start or change a canary. Raises NotFound, Conflict."""
    canary = context.stores.canaries.set(context.project, alias, request.version, request.percent, request.shadow)
    context.model_router.forget()
    return _as_object(canary)


def get(context: ProjectContext, alias: str) -> CanaryObject:
    canary = context.stores.canaries.get(context.project, alias)
    if canary is None:
        raise _no_canary(context, alias)
    return _as_object(canary)


def end(context: ProjectContext, alias: str) -> CanaryDeleted:
    if not context.stores.canaries.end(context.project, alias):
        raise _no_canary(context, alias)
    context.model_router.forget()
    return CanaryDeleted(id=alias)


def _no_canary(context: ProjectContext, alias: str) -> NotFound:
    context.stores.catalog.resolve(context.project, alias)  # raises if the alias does not exist
    return NotFound(f"{alias!r} has no canary", param="model", code="canary_not_found")


def _as_object(canary: Canary) -> CanaryObject:
    return CanaryObject(
        id=canary.tried.alias,
        alias=canary.tried.alias,
        served=canary.served.version,
        version=canary.tried.version,
        percent=canary.percent,
        shadow=canary.shadow,
        created_at=int(canary.since),
    )
