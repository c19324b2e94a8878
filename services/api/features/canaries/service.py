"""Setting, showing and ending canaries."""

from services.api.context import ProjectContext
from services.api.features.canaries.checks import problems_of
from services.api.features.notices import notice_object
from services.api.paging import Paging, listed
from shared.contracts.canary import (
    ArmStanding,
    CanaryDeleted,
    CanaryObject,
    CanaryRequest,
    CanaryStanding,
)
from shared.contracts.errors import NotFound
from shared.contracts.notices import NoticeKind, NoticeObject
from shared.contracts.problems import refuse
from shared.contracts.views import Listed
from shared.jobs.canary_store import Canary


def put(context: ProjectContext, alias: str, request: CanaryRequest) -> CanaryObject:
    """Start a canary in place of the present one. Raises Refused, NotFound, Conflict."""
    refuse(problems_of(context, request))
    canary = context.stores.canaries.set(context.project, alias, request.version, request)
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


def events(context: ProjectContext, alias: str, paging: Paging) -> Listed[NoticeObject]:
    """Of all canaries that the alias has had. Raises NotFound for an alias that does not exist."""
    context.stores.catalog.resolve(context.project, alias)
    rows, more = context.stores.notices.page(context.project, NoticeKind.CANARY, alias, *paging)
    return listed([notice_object(row) for row in rows], more)


def _no_canary(context: ProjectContext, alias: str) -> NotFound:
    context.stores.catalog.resolve(context.project, alias)  # raises if the alias does not exist
    return NotFound(f"{alias!r} has no canary", param="model", code="canary_not_found")


def _as_object(canary: Canary) -> CanaryObject:
    made = CanaryObject(
        id=canary.tried.alias,
        alias=canary.tried.alias,
        served=canary.served.version,
        version=canary.tried.version,
        percent=canary.percent,
        shadow=canary.shadow,
        created_at=int(canary.since),
    )
    if canary.rule is None:
        return made
    nothing = ArmStanding(requests=0, loss=None)
    return made.model_copy(
        update={
            "goal": canary.rule.goal,
            "steps": canary.rule.steps,
            "promote": canary.rule.promote,
            "standing": canary.standing or CanaryStanding(step=canary.step + 1, served=nothing, canary=nothing),
        }
    )
