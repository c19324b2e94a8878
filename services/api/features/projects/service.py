"""Projects and what they may use. What one may spend in a day stands in the ledger, which enforces it; the rest beside its name."""

from services.api.context import ApiContext
from shared.contracts.keys import ProjectChange, ProjectLimits, ProjectObject, ProjectRequest
from shared.jobs.records import ProjectRecord
from shared.ledger.accounts import Limits

IN_LEDGER = "teacher_usd_per_day"


def create(context: ApiContext, request: ProjectRequest) -> ProjectObject:
    row = context.stores.projects.add(request.name, **request.limits.model_dump(exclude={IN_LEDGER}))
    if request.limits.teacher_usd_per_day is not None:
        context.ledger.set_standing_limits(row.id, Limits(usd=request.limits.teacher_usd_per_day))
    return as_object(context, row)


def get(context: ApiContext, view: str | None, project_id: str) -> ProjectObject:
    """view: the caller's project, None for the operator. Raises NotFound."""
    return as_object(context, context.stores.projects.get(view, project_id))


def page(context: ApiContext, view: str | None, after: str | None, limit: int) -> tuple[list[ProjectObject], bool]:
    rows, more = context.stores.projects.page(view, after, limit)
    return [as_object(context, row) for row in rows], more


def change(context: ApiContext, project_id: str, wanted: ProjectChange) -> ProjectObject:
    """Raises NotFound."""
    row = context.stores.projects.get(None, project_id)
    limits = wanted.limits.model_dump(exclude_unset=True)
    if IN_LEDGER in limits:
        context.ledger.set_standing_limits(project_id, Limits(usd=limits.pop(IN_LEDGER)))
    values = limits | ({"name": wanted.name} if wanted.name is not None else {})
    if values:
        row = context.stores.projects.change(project_id, values)
        context.request_limits.forget(project_id)
    return as_object(context, row)


def as_object(context: ApiContext, row: ProjectRecord) -> ProjectObject:
    return ProjectObject(
        id=row.id,
        name=row.name,
        created_at=int(row.created_at),
        limits=ProjectLimits(
            requests_per_minute=row.requests_per_minute,
            concurrent_jobs=row.concurrent_jobs,
            teacher_usd_per_day=context.ledger.standing_limits(row.id).usd,
            stored_bytes=row.stored_bytes,
        ),
    )
