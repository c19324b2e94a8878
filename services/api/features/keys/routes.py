"""/v1/keys: a project's admin manages that project's keys, the operator those of all projects."""

from services.api.deps import Context, Id, Page, needs
from services.api.features.keys import service as keys
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.keys import KeyChange, KeyObject, KeyRequest, NewKey, Scope
from shared.contracts.views import Deleted, Listed

router = Router(prefix="/v1/keys", tags=["keys"], dependencies=[needs(Scope.ADMIN)])


@router.post("", status_code=201, responses=may_answer(404))
def create_key(context: Context, body: KeyRequest) -> NewKey:
    """A new key. It is shown in this answer and never again."""
    return keys.create(context, body)


@router.get("")
def list_keys(context: Context, paging: Page) -> Listed[KeyObject]:
    return keys.page(context, paging)


@router.get("/{key_id}")
def get_key(context: Context, key_id: Id) -> KeyObject:
    return keys.get(context, key_id)


@router.patch("/{key_id}", dependencies=[once], responses=may_answer(409, 422))
def change_key(context: Context, key_id: Id, body: KeyChange) -> KeyObject:
    """Change the key's budget. Jobs that paused because of the old one have to be resumed."""
    return keys.change(context, key_id, body)


@router.delete("/{key_id}")
def revoke_key(context: Context, key_id: Id) -> Deleted:
    """Revoke the key. It stays in the list, with the time of this request."""
    keys.revoke(context, key_id)
    return Deleted(id=key_id, object="api_key")
