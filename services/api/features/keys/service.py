"""API keys: made, listed, given another budget, revoked."""

from services.api.context import ApiContext
from shared.contracts.keys import KeyChange, KeyObject, KeyRequest, NewKey
from shared.security.api_keys import issue, set_budget, shown


def create(context: ApiContext, project: str, request: KeyRequest) -> NewKey:
    """The only answer in which the key stands. Raises NotFound for a project that is not."""
    made = issue(context.stores.keys, context.ledger, context.keyring.secret, project, request)
    context.keyring.forget()
    return made


def get(context: ApiContext, view: str | None, key_id: str) -> KeyObject:
    """view: the caller's project, None for the operator."""
    return shown(context.stores.keys.get(view, key_id), context.ledger)


def page(context: ApiContext, view: str | None, after: str | None, limit: int) -> tuple[list[KeyObject], bool]:
    rows, more = context.stores.keys.page(view, after, limit)
    return [shown(row, context.ledger) for row in rows], more


def change(context: ApiContext, view: str | None, key_id: str, wanted: KeyChange) -> KeyObject:
    """Raises NotFound."""
    row = context.stores.keys.get(view, key_id)
    set_budget(context.ledger, key_id, wanted)
    return shown(row, context.ledger)


def revoke(context: ApiContext, view: str | None, key_id: str) -> None:
    """From now on it opens nothing here, and after a second nowhere. Raises NotFound."""
    context.stores.keys.revoke(view, key_id)
    context.keyring.forget()
