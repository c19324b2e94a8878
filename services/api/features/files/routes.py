"""/v1/files"""

from typing import Annotated, Literal

from fastapi import Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from services.api.deps import Context, Id, needs
from services.api.features.files import service as files
from services.api.features.files import versions
from services.api.features.files.upload import EXPIRES_S, FORM_BYTES, received_upload
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.paging import Paging
from services.api.responses.downloads import IfRange, Range, download_responses, downloaded
from services.api.router import Router
from shared.artifacts.archives import Parts
from shared.contracts.data import Split
from shared.contracts.distillation import NO_NUL
from shared.contracts.file_reading import Preview, PreviewRequest
from shared.contracts.keys import Scope
from shared.contracts.versions import DatasetRow, FileDiff, VersionRequest
from shared.contracts.views import Deleted, FileObject, FileVerdict, Listed

router = Router(prefix="/v1/files", tags=["files"], dependencies=[needs(Scope.FILES)])

MOST_PAGE = 100

FORM_SCHEMA = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(files.PURPOSES)},
        "expires_after": {
            "type": "object",
            "required": ["anchor", "seconds"],
            "properties": {
                "anchor": {"type": "string", "enum": ["created_at"]},
                "seconds": {"type": "integer", "minimum": EXPIRES_S[0], "maximum": EXPIRES_S[-1]},
            },
        },
        "mapping": {"type": "object", "additionalProperties": {"type": "string"}},
        "skip_bad": {"type": "boolean", "default": False},
        "answers": {"type": "string", "enum": ["last", "all"], "default": "last"},
        "mask": {"type": "boolean", "default": False},
        "member": {"type": "string", "maxLength": 500},
    },
}
FORM = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM_SCHEMA}}}}
BYTES = download_responses({"application/octet-stream": {"type": "string", "format": "binary"}})


@router.post("", openapi_extra=FORM, responses=may_answer(400, 413))
async def create_file(request: Request, context: Context) -> FileObject:
    context.artifacts.check_room(context.files)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():  # before the body arrives; the actual size is checked again
        await run_in_threadpool(files.check_quota, context, int(declared) - FORM_BYTES)
    async with received_upload(request, context.files, context.settings.upload_bytes) as upload:
        return await run_in_threadpool(files.add, context, upload)


@router.get("")
def list_files(
    context: Context,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=files.MOST_LISTED)] = files.MOST_LISTED,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(max_length=64, pattern=NO_NUL)] = None,
) -> Listed[FileObject]:
    """By time of upload. A purpose that no file has gives an empty list."""
    return files.page(context, Paging(after, limit), purpose, order)


@router.get("/{file_id}")
def get_file(context: Context, file_id: Id) -> FileObject:
    return files.get(context, file_id)


@router.get("/{file_id}/content", response_class=Response, responses=BYTES)
def get_file_content(context: Context, file_id: Id, range_header: Range = "", if_range: IfRange = "") -> Response:
    """The file as it was uploaded, or with `Range: bytes=...` one part of it."""
    path, filename = files.content(context, file_id)
    parts = Parts([(path, path.stat().st_size)])
    return downloaded(parts, path.name, filename, "application/octet-stream", range_header, if_range)


@router.delete("/{file_id}", responses=may_answer(409))
def delete_file(context: Context, file_id: Id) -> Deleted:
    files.delete(context, file_id)
    return Deleted(id=file_id, object="file")


@router.post("/{file_id}/validate", responses=may_answer(400))
def validate_file(context: Context, file_id: Id) -> FileVerdict:
    return files.validate(context, file_id)


@router.post("/{file_id}/preview", responses=may_answer(400))
def preview_file(context: Context, file_id: Id, request: PreviewRequest | None = None) -> Preview:
    """What the file becomes if it is used as a dataset: how it is read, its first rows before and after, what is left out.

    Works on any uploaded file, also of purpose user_data. Nothing is stored.
    """
    return files.preview(context, file_id, request or PreviewRequest())


@router.post("/{file_id}/versions", status_code=201, dependencies=[once], responses=may_answer(400, 409, 422))
def create_file_version(context: Context, file_id: Id, request: VersionRequest) -> FileObject:
    """Make the dataset's next version, with rows appended, edited or removed. It is a file of its own: this file and the jobs that use
    it do not change. Rows stay in their splits, so a job on the new version keeps the test questions."""
    return versions.add(context, file_id, request)


@router.get("/{file_id}/versions")
def list_file_versions(
    context: Context,
    file_id: Id,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PAGE)] = 20,
) -> Listed[FileObject]:
    """All versions of the file's dataset that are not deleted, newest first."""
    return versions.page(context, file_id, Paging(after, limit))


@router.get("/{file_id}/rows", responses=may_answer(400))
def list_file_rows(
    context: Context,
    file_id: Id,
    split: Annotated[Split | None, Query()] = None,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PAGE)] = 20,
) -> Listed[DatasetRow]:
    """The rows of a dataset as jobs use them, in the file's order, each with its split."""
    return versions.rows(context, file_id, Paging(after, limit), split)


@router.get("/{file_id}/diff", responses=may_answer(400))
def diff_file(
    context: Context,
    file_id: Id,
    against: Annotated[str | None, Query(max_length=200)] = None,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PAGE)] = 20,
) -> FileDiff:
    """The differences to another dataset, by row id; without `against`, to the version that this one was made from."""
    return versions.diff(context, file_id, against, Paging(after, limit))
