"""/v1/audit"""

from services.api.deps import Context, Page, needs
from services.api.features.audit import service as audit
from services.api.router import Router
from shared.contracts.keys import AuditEntry, Scope
from shared.contracts.views import Listed

router = Router(prefix="/v1/audit", tags=["audit"], dependencies=[needs(Scope.ADMIN)])


@router.get("")
def list_audit(context: Context, paging: Page) -> Listed[AuditEntry]:
    """Newest first; a project's admin sees the requests of that project's keys, the operator all."""
    return audit.page(context, paging)
