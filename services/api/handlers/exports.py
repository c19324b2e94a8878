"""/v1/exports: what POST /v1/models/{model}/export has begun, and its files."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import Response, StreamingResponse

from services.api.document import may_answer
from services.api.handlers.access import Context, Project, needs
from services.api.handlers.lists import DEFAULT_LIMIT, After, Id, Limit, listed
from services.api.handlers.once import once
from services.api.service import exports
from shared.contracts.errors import UserError
from shared.contracts.exports import ExportObject
from shared.contracts.keys import Scope
from shared.contracts.views import Listed

router = APIRouter(prefix="/v1/exports", tags=["exports"], dependencies=[needs(Scope.JOBS)])
RANGE = re.compile(r"^bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))$")
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


class RangeNotSatisfiable(UserError):
    status = 416
    code = "range_not_satisfiable"


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
    range_: Annotated[str, Header(alias="range", max_length=200)] = "",
    if_range: Annotated[str, Header(max_length=200)] = "",
) -> Response:
    """The file, or with `Range: bytes=...` one part of it. Several parts at once are not served: the whole file is."""
    download, parts = exports.content(context, project, export_id, name)
    tag = f'"{download.sha256}"'
    headers = {
        "accept-ranges": "bytes",
        "etag": tag,
        "x-content-type-options": "nosniff",
        "content-disposition": f'attachment; filename="{download.name}"',
    }
    wanted = span(range_, parts.size) if if_range in ("", tag) else None
    start, stop = wanted or (0, parts.size)
    headers["content-length"] = str(stop - start)
    if wanted is not None:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{parts.size}"
    media = MEDIA[download.name.rpartition(".")[2]]
    status = 206 if wanted is not None else 200
    return StreamingResponse(parts.read(start, stop), status, headers, media_type=media)


def span(header: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last of a Range header; None where all is to be sent (RFC 9110 section 14.2)."""
    match = RANGE.match(header)
    if match is None:
        return None
    first, last, suffix = match.groups()
    start = max(size - int(suffix), 0) if suffix else int(first)
    stop = min(int(last) + 1, size) if last else size
    if last and int(last) < int(first):
        return None  # not a valid range, so it is as if there was none
    if start >= size or suffix == "0":
        raise RangeNotSatisfiable(f"the file has {size} bytes, so {header!r} holds none of it", param="range")
    return start, stop
