"""API keys: made, listed, revoked."""

from sqlalchemy import Row

from services.api.service.context import ApiContext
from shared.api_keys import hint_of, new_key
from shared.contracts.keys import KeyObject, KeyRequest, NewKey


def create(context: ApiContext, project: str, request: KeyRequest) -> NewKey:
    """The only answer in which the key stands. Raises NotFound for a project that is not."""
    key = new_key()
    row = context.stores.keys.add(
        project, request.name, request.scopes, context.keyring.hash_of(key), hint_of(key), request.expires_at
    )
    context.keyring.forget()
    return NewKey(**as_object(row).model_dump(), key=key)


def get(context: ApiContext, view: str | None, key_id: str) -> KeyObject:
    """view: the caller's project, None for the operator."""
    return as_object(context.stores.keys.get(view, key_id))


def page(context: ApiContext, view: str | None, after: str | None, limit: int) -> tuple[list[KeyObject], bool]:
    rows, more = context.stores.keys.page(view, after, limit)
    return [as_object(row) for row in rows], more


def revoke(context: ApiContext, view: str | None, key_id: str) -> None:
    """From now on it opens nothing here, and after a second nowhere. Raises NotFound."""
    context.stores.keys.revoke(view, key_id)
    context.keyring.forget()


def as_object(row: Row) -> KeyObject:
    return KeyObject(
        id=row.id,
        name=row.name,
        project=row.project_id,
        scopes=row.scopes,
        hint=row.hint,
        created_at=int(row.created_at),
        expires_at=_seconds(row.expires_at),
        revoked_at=_seconds(row.revoked_at),
        last_used_at=_seconds(row.last_used_at),
    )


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)
