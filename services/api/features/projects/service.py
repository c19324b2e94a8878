"""Projects and their limits. The daily spending limit is stored in the ledger, which enforces it; the others beside the name."""

from services.api.context import ProjectContext
from services.api.paging import Paging, listed
from shared.contracts.keys import ProjectChange, ProjectLimits, ProjectObject, ProjectRequest
from shared.contracts.views import Listed
from shared.jobs.records import ProjectRecord
from shared.ledger.accounts import Limits

IN_LEDGER = "teacher_usd_per_day"


def create(context: ProjectContext, request: ProjectRequest) -> ProjectObject:
    row = context.stores.projects.add(request.name, **request.limits.model_dump(exclude={IN_LEDGER}))
    if request.limits.teacher_usd_per_day is not None:
        context.ledger.set_standing_limits(row.id, Limits(usd=request.limits.teacher_usd_per_day))
    return _as_object(context, row)


def get(context: ProjectContext, project_id: str) -> ProjectObject:
    """Raises NotFound."""
    return _as_object(context, context.stores.projects.get(context.view, project_id))


def page(context: ProjectContext, paging: Paging) -> Listed[ProjectObject]:
    rows, more = context.stores.projects.page(context.view, *paging)
    return listed([_as_object(context, row) for row in rows], more)


def change(context: ProjectContext, project_id: str, change: ProjectChange) -> ProjectObject:
    """Raises NotFound."""
    row = context.stores.projects.get(None, project_id)
    limits = change.limits.model_dump(exclude_unset=True)
    if IN_LEDGER in limits:
        context.ledger.set_standing_limits(project_id, Limits(usd=limits.pop(IN_LEDGER)))
    values = limits | ({"name": change.name} if change.name is not None else {})
    if values:
        row = context.stores.projects.change(project_id, values)
        context.request_limits.forget(project_id)
    return _as_object(context, row)


def _as_object(context: ProjectContext, project: ProjectRecord) -> ProjectObject:
    return ProjectObject(
        id=project.id,
        name=project.name,
        created_at=int(project.created_at),
        limits=ProjectLimits(
            requests_per_minute=project.requests_per_minute,
            concurrent_jobs=project.concurrent_jobs,
            teacher_usd_per_day=context.ledger.standing_limits(project.id).usd,
            stored_bytes=project.stored_bytes,
        ),
    )
