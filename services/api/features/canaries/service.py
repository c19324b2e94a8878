"""Setting, showing and ending canaries."""

from services.api.context import ApiContext
from shared.contracts.canary import CanaryDeleted, CanaryObject, CanaryRequest
from shared.contracts.errors import NotFound
from shared.jobs.canary_store import Canary


def put(context: ApiContext, project: str, alias: str, request: CanaryRequest) -> CanaryObject:
    """Begin or change one. Raises NotFound, Conflict."""
    version, percent, shadow = request.version, request.percent, request.shadow
    return _shown(context.stores.canaries.set(project, alias, version, percent, shadow))


def get(context: ApiContext, project: str, alias: str) -> CanaryObject:
    found = context.stores.canaries.get(project, alias)
    if found is None:
        raise _none(context, project, alias)
    return _shown(found)


def end(context: ApiContext, project: str, alias: str) -> CanaryDeleted:
    if not context.stores.canaries.end(project, alias):
        raise _none(context, project, alias)
    return CanaryDeleted(id=alias)


def _none(context: ApiContext, project: str, alias: str) -> NotFound:
    context.stores.catalog.resolve(project, alias)  # raises for an alias that is none
    return NotFound(f"{alias!r} has no canary", param="model", code="canary_not_found")


def _shown(canary: Canary) -> CanaryObject:
    return CanaryObject(
        id=canary.tried.alias,
        alias=canary.tried.alias,
        served=canary.served.version,
        version=canary.tried.version,
        percent=canary.percent,
        shadow=canary.shadow,
        created_at=int(canary.since),
    )
