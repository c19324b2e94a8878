"""/v1/imports"""

from typing import Any

from fastapi import APIRouter, Response

from services.api.deps import Context, KeyId, Project, needs
from services.api.features.imports import service as imports
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.responses.lists import DEFAULT_LIMIT, After, Id, Limit, listed
from shared.contracts.imports import ImportChange, ImportObject, ImportRequest
from shared.contracts.keys import Scope
from shared.contracts.views import Listed

router = APIRouter(prefix="/v1/imports", tags=["imports"], dependencies=[needs(Scope.JOBS)])


@router.post("", status_code=201, dependencies=[once], responses=may_answer(409, 422))
def create_import(
    context: Context, project: Project, key_id: KeyId, body: ImportRequest, response: Response
) -> ImportObject:
    """Make a dataset of something else. When it has succeeded, `result.file` is the new file."""
    made = imports.create(context, project, body, key_id)
    response.headers["location"] = f"/v1/imports/{made.id}"
    return made


@router.get("", response_model=Listed[ImportObject])
def list_imports(
    context: Context, project: Project, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> dict[str, Any]:
    return listed(*imports.page(context, project, after, limit))


@router.get("/{import_id}")
def get_import(context: Context, project: Project, import_id: Id) -> ImportObject:
    return imports.get(context, project, import_id)


@router.patch("/{import_id}", dependencies=[once], responses=may_answer(409, 422))
def change_import(context: Context, project: Project, import_id: Id, body: ImportChange) -> ImportObject:
    """Another budget. An import that waits for its budget goes on."""
    return imports.change(context, project, import_id, body)


@router.post("/{import_id}/cancel", dependencies=[once], responses=may_answer(409, 422))
def cancel_import(context: Context, project: Project, import_id: Id) -> ImportObject:
    return imports.cancel(context, project, import_id)


@router.post("/{import_id}/pause", dependencies=[once], responses=may_answer(409, 422))
def pause_import(context: Context, project: Project, import_id: Id) -> ImportObject:
    return imports.pause(context, project, import_id)


@router.post("/{import_id}/resume", dependencies=[once], responses=may_answer(409, 422))
def resume_import(context: Context, project: Project, import_id: Id) -> ImportObject:
    return imports.resume(context, project, import_id)
