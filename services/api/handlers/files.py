"""/v1/files"""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from services.api.handlers.access import Context, Project, needs
from services.api.handlers.lists import DEFAULT_LIMIT, After, Limit, listed
from services.api.handlers.upload import received_upload
from services.api.service import files
from shared.contracts.jobs import FileObject
from shared.contracts.keys import Scope

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
                        "purpose": {"type": "string", "enum": [files.PURPOSE]},
                    },
                }
            }
        },
    }
}


@router.post("", openapi_extra=FORM)
async def create_file(request: Request, context: Context, project: Project) -> FileObject:
    async with received_upload(request, context.files, context.settings.upload_bytes) as upload:
        return await run_in_threadpool(files.add, context, project, upload)


@router.get("")
def list_files(context: Context, project: Project, after: After = None, limit: Limit = DEFAULT_LIMIT) -> dict[str, Any]:
    return listed(*files.page(context, project, after, limit))


@router.get("/{file_id}")
def get_file(context: Context, project: Project, file_id: str) -> FileObject:
    return files.get(context, project, file_id)


@router.get("/{file_id}/content", response_class=FileResponse)
def get_file_content(context: Context, project: Project, file_id: str) -> FileResponse:
    path, filename = files.content(context, project, file_id)
    headers = {"x-content-type-options": "nosniff"}
    return FileResponse(path, media_type="application/octet-stream", filename=filename, headers=headers)


@router.delete("/{file_id}")
def delete_file(context: Context, project: Project, file_id: str) -> dict[str, Any]:
    files.delete(context, project, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


@router.post("/{file_id}/validate")
def validate_file(context: Context, project: Project, file_id: str) -> dict[str, Any]:
    return files.validate(context, project, file_id)
