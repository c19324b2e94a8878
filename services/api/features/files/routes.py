"""/v1/files"""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from services.api.deps import Context, Project, needs
from services.api.features.files import service as files
from services.api.features.files.upload import FORM_BYTES, received_upload
from services.api.openapi_document import may_answer
from services.api.responses.downloads import IfRange, Range, downloaded
from services.api.responses.lists import DEFAULT_LIMIT, After, Id, Limit, listed
from shared.artifacts.archives import Parts
from shared.contracts.keys import Scope
from shared.contracts.views import Deleted, FileObject, FileVerdict, Listed

router = APIRouter(prefix="/v1/files", tags=["files"], dependencies=[needs(Scope.FILES)])

FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(files.PURPOSES)},
                    },
                }
            }
        },
    }
}

BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
CONTENT: dict[int | str, dict[str, Any]] = {
    200: BYTES,
    206: BYTES | {"description": "The part that was asked for."},
} | may_answer(416)


@router.post("", openapi_extra=FORM, responses=may_answer(400, 413))
async def create_file(request: Request, context: Context, project: Project) -> FileObject:
    context.artifacts.check_room(context.files)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():  # before all of it has come; what it turns out to be is checked again
        await run_in_threadpool(files.check_room, context, project, int(declared) - FORM_BYTES)
    async with received_upload(request, context.files, context.settings.upload_bytes) as upload:
        return await run_in_threadpool(files.add, context, project, upload)


@router.get("", response_model=Listed[FileObject])
def list_files(context: Context, project: Project, after: After = None, limit: Limit = DEFAULT_LIMIT) -> dict[str, Any]:
    return listed(*files.page(context, project, after, limit))


@router.get("/{file_id}")
def get_file(context: Context, project: Project, file_id: Id) -> FileObject:
    return files.get(context, project, file_id)


@router.get("/{file_id}/content", response_class=Response, responses=CONTENT)
def get_file_content(
    context: Context, project: Project, file_id: Id, range_header: Range = "", if_range: IfRange = ""
) -> Response:
    """The file as it was uploaded, or with `Range: bytes=...` one part of it."""
    path, filename = files.content(context, project, file_id)
    parts = Parts([(path, path.stat().st_size)])
    return downloaded(parts, path.name, filename, "application/octet-stream", range_header, if_range)


@router.delete("/{file_id}", response_model=Deleted, responses=may_answer(409))
def delete_file(context: Context, project: Project, file_id: Id) -> dict[str, Any]:
    files.delete(context, project, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


@router.post("/{file_id}/validate", response_model=FileVerdict, responses=may_answer(400))
def validate_file(context: Context, project: Project, file_id: Id) -> dict[str, Any]:
    return files.validate(context, project, file_id)
