"""/v1/exports: what POST /v1/models/{model}/export has begun, and its files."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from services.api.deps import Context, Project, needs
from services.api.features.exports import service as exports
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.responses.downloads import IfRange, Range, downloaded
from services.api.responses.lists import DEFAULT_LIMIT, After, Id, Limit, listed
from shared.contracts.exports import ExportObject
from shared.contracts.keys import Scope
from shared.contracts.views import Listed

router = APIRouter(prefix="/v1/exports", tags=["exports"], dependencies=[needs(Scope.JOBS)])
MEDIA = {"tar": "application/x-tar", "json": "application/json", "md": "text/markdown; charset=utf-8"}
BYTES = {
    "content": {
        "application/x-tar": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {"schema": {"type": "object"}},
        "text/markdown": {"schema": {"type": "string"}},
    }
}
CONTENT: dict[int | str, dict[str, Any]] = {
    200: BYTES,
    206: BYTES | {"description": "The part that was asked for."},
} | may_answer(416)


@router.get("", response_model=Listed[ExportObject])
def list_exports(
    context: Context, project: Project, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> dict[str, Any]:
    return listed(*exports.page(context, project, after, limit))


@router.get("/{export_id}")
def get_export(context: Context, project: Project, export_id: Id) -> ExportObject:
    return exports.get(context, project, export_id)


@router.post("/{export_id}/cancel", dependencies=[once], responses=may_answer(409, 422))
def cancel_export(context: Context, project: Project, export_id: Id) -> ExportObject:
    return exports.cancel(context, project, export_id)


@router.post("/{export_id}/pause", dependencies=[once], responses=may_answer(409, 422))
def pause_export(context: Context, project: Project, export_id: Id) -> ExportObject:
    return exports.pause(context, project, export_id)


@router.post("/{export_id}/resume", dependencies=[once], responses=may_answer(409, 422))
def resume_export(context: Context, project: Project, export_id: Id) -> ExportObject:
    return exports.resume(context, project, export_id)


@router.get("/{export_id}/content/{name}", response_class=Response, responses=CONTENT)
def get_export_content(
    context: Context,
    project: Project,
    export_id: Id,
    name: Id,
    range_header: Range = "",
    if_range: IfRange = "",
) -> Response:
    """The file, or with `Range: bytes=...` one part of it. Several parts at once are not served: the whole file is."""
    download, parts = exports.content(context, project, export_id, name)
    media = MEDIA[download.name.rpartition(".")[2]]
    return downloaded(parts, download.sha256, download.name, media, range_header, if_range)
