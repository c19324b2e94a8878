"""API keys: created, listed, given another budget, revoked."""

from services.api.context import ProjectContext
from services.api.paging import Paging, listed
from shared.contracts.errors import NotFound
from shared.contracts.keys import KeyChange, KeyObject, KeyRequest, NewKey
from shared.contracts.views import Listed
from shared.security.api_keys import issue, set_budget, shown


def create(context: ProjectContext, request: KeyRequest) -> NewKey:
    """The only answer that shows the key. Raises NotFound for a project that does not exist or is not the caller's."""
    project = request.project or context.project
    if project != context.project and not context.caller.operator:
        raise NotFound(f"no project {project!r}", param="project", code="project_not_found")
    key = issue(context.stores.keys, context.ledger, context.keyring.secret, project, request)
    context.keyring.forget()
    return key


def get(context: ProjectContext, key_id: str) -> KeyObject:
    return shown(context.stores.keys.get(context.view, key_id), context.ledger)


def page(context: ProjectContext, paging: Paging) -> Listed[KeyObject]:
    rows, more = context.stores.keys.page(context.view, *paging)
    return listed([shown(row, context.ledger) for row in rows], more)


def change(context: ProjectContext, key_id: str, change: KeyChange) -> KeyObject:
    """Raises NotFound."""
    row = context.stores.keys.get(context.view, key_id)
    set_budget(context.ledger, key_id, change)
    return shown(row, context.ledger)


def revoke(context: ProjectContext, key_id: str) -> None:
    """The key is invalid in this process at once, and in others after a second. Raises NotFound."""
    context.stores.keys.revoke(context.view, key_id)
    context.keyring.forget()
