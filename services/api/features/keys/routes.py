"""/v1/keys: a project's admin sees and makes the keys of that project, the operator those of all."""

from typing import Any

from fastapi import APIRouter

from services.api.deps import Asking, Context, needs
from services.api.features.keys import service as keys
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.responses.lists import DEFAULT_LIMIT, After, Id, Limit, listed
from shared.contracts.errors import NotFound
from shared.contracts.keys import KeyChange, KeyObject, KeyRequest, NewKey, Scope
from shared.contracts.views import Deleted, Listed

router = APIRouter(prefix="/v1/keys", tags=["keys"], dependencies=[needs(Scope.ADMIN)])


@router.post("", status_code=201, responses=may_answer(404))
def create_key(context: Context, caller: Asking, body: KeyRequest) -> NewKey:
    """A new key. It is shown in this answer and never again."""
    project = body.project or caller.project
    if project != caller.project and not caller.operator:
        raise NotFound(f"no project {project!r}", param="project", code="project_not_found")
    return keys.create(context, project, body)


@router.get("", response_model=Listed[KeyObject])
def list_keys(context: Context, caller: Asking, after: After = None, limit: Limit = DEFAULT_LIMIT) -> dict[str, Any]:
    return listed(*keys.page(context, caller.view, after, limit))


@router.get("/{key_id}")
def get_key(context: Context, caller: Asking, key_id: Id) -> KeyObject:
    return keys.get(context, caller.view, key_id)


@router.patch("/{key_id}", dependencies=[once], responses=may_answer(409, 422))
def change_key(context: Context, caller: Asking, key_id: Id, body: KeyChange) -> KeyObject:
    """Another budget, from now on. Jobs that paused because of it are resumed by whoever owns them."""
    return keys.change(context, caller.view, key_id, body)


@router.delete("/{key_id}", response_model=Deleted)
def revoke_key(context: Context, caller: Asking, key_id: Id) -> dict[str, Any]:
    """The key opens nothing any more. It stays in the list, with the time of this request."""
    keys.revoke(context, caller.view, key_id)
    return {"id": key_id, "object": "api_key", "deleted": True}
