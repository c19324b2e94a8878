"""Reading the audit log, which middleware/audit.py writes."""

from services.api.context import ProjectContext
from services.api.paging import Paging, listed
from shared.contracts.keys import AuditEntry
from shared.contracts.views import Listed
from shared.jobs.records import AuditRecord


def page(context: ProjectContext, paging: Paging) -> Listed[AuditEntry]:
    rows, more = context.stores.audit.page(context.view, *paging)
    return listed([_as_object(row) for row in rows], more)


def _as_object(entry: AuditRecord) -> AuditEntry:
    return AuditEntry(
        id=entry.id,
        created_at=int(entry.created_at),
        project=entry.project_id,
        caller=entry.caller,
        method=entry.method,
        route=entry.route,
        object_id=entry.object_id,
        status=entry.status,
        request_id=entry.request_id,
    )
