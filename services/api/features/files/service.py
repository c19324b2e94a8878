"""Uploaded datasets: read in any format, checked row by row, split, stored by content hash. What is left out is counted."""

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from services.api.context import ApiContext, ProjectContext
from services.api.paging import Paging, listed
from shared.artifacts.token_counts import token_counter
from shared.contracts.error_location import unknown_name
from shared.contracts.errors import NotFound, UserError
from shared.contracts.file_reading import Preview, PreviewRequest, ReadOptions
from shared.contracts.views import FileObject, FileVerdict, LineErrors, Listed
from shared.datasets.files import PURPOSE, remove_bytes
from shared.importing import storing
from shared.jobs.records import FileRecord
from shared.platform.aside import aside

P = ParamSpec("P")
T = TypeVar("T")
SHORT, SHORT_PACKED = 1 << 20, 1 << 15  # bytes of a file that is read in this process
PACKED = (
    b"PK",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"PAR1",
    b"ARRO",
)  # how files begin that hold more than their length tells
STORED_ERRORS = 100  # with the file's row
SHOWN_ERRORS = 1000  # by `validate`, which reads the file again
RAW = "user_data"  # OpenAI's purpose for files that are stored unchecked; imports read them
EVALS = "evals"  # OpenAI's purpose for the items of evals, kept unchecked too
PURPOSES = (PURPOSE, RAW, EVALS)
MOST_LISTED = 10_000  # OpenAI's, for the default too


class Received(NamedTuple):
    """A finished upload: the path of its temporary file, the SHA-256 and number of its bytes, and the client's name for it.
    expires_after: seconds; None: never."""

    path: Path
    sha256: str
    size: int
    filename: str
    purpose: str
    options: ReadOptions = ReadOptions()
    expires_after: int | None = None


def add(context: ProjectContext, upload: Received) -> FileObject:
    """Check and store an upload. A file with bad lines is stored with status error; an empty one is refused."""
    if upload.purpose not in PURPOSES:
        raise UserError(
            f"purpose must be {', '.join(PURPOSES[:-1])} or {PURPOSES[-1]}", param="purpose", code="invalid_value"
        )
    columns = _raw_columns(upload) if upload.purpose in (RAW, EVALS) else _dataset_columns(context, upload)
    if upload.expires_after is not None:
        now = int(time.time())
        columns |= {"created_at": now, "expires_at": now + upload.expires_after}
    with context.uploads.alone():
        check_quota(context, upload.size)  # before the bytes are stored
        context.uploads.add(upload.path, upload.sha256)
        row = context.stores.catalog.add_file(
            context.project,
            sha256=upload.sha256,
            bytes=upload.size,
            filename=clean_filename(upload.filename),
            purpose=upload.purpose,
            **columns,
        )
        context.uploads.check(upload.sha256)
    return as_object(row)


def check_quota(context: ProjectContext, size: int) -> None:
    """Raises StorageFull. size: lower bound of the bytes to come."""
    context.stores.catalog.check_room(context.project, size)


def _raw_columns(upload: Received) -> dict[str, Any]:
    if not upload.size:
        raise UserError("the file is empty", param="file", code="empty_file")
    if upload.options.mask:
        raise UserError(
            f"a file with the purpose {upload.purpose} is kept as it is; masking is an option of its import",
            param="mask",
            code="invalid_value",
        )
    return {"status": "processed", "errors": []}


def _dataset_columns(context: ApiContext, upload: Received) -> dict[str, Any]:
    checked, references = run(
        upload.path, storing.stored, upload.path, upload.options, limits_of(context, STORED_ERRORS), context.artifacts
    )
    if not checked.errors and not checked.n_rows:
        raise UserError("the file has no rows", param="file", code="empty_file")
    about = {"reading": checked.reading.model_dump(mode="json")}
    if references is None:
        return about | {"status": "error", "errors": [error.model_dump() for error in checked.errors]}
    return about | {
        "status": "processed",
        "errors": [],
        "n_rows": checked.n_rows,
        "splits": checked.assigned.counts,
        "rows_ref": references.rows,
        "columns_ref": references.columns,
    }


def limits_of(context: ApiContext, errors: int) -> storing.Limits:
    settings = context.settings
    return storing.Limits(settings.dev_share, settings.test_share, errors, settings.max_rows)


def run(path: Path, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Here if the file is short and is what it seems to be; a long or packed one in a process of its own."""
    with path.open("rb") as file:
        begin = file.read(4)
    packed = begin[:2] in PACKED or begin in PACKED
    long = path.stat().st_size > (SHORT_PACKED if packed else SHORT)
    return aside(work, *args, **kwargs) if long else work(*args, **kwargs)


def clean_filename(name: str) -> str:
    """The last part of the name, without control characters, short enough for its column."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in last if c.isprintable())[:255] or "upload.jsonl"


def get(context: ProjectContext, file_id: str) -> FileObject:
    return as_object(context.file(file_id))


def page(context: ProjectContext, paging: Paging, purpose: str | None, order: str) -> Listed[FileObject]:
    rows, more = context.stores.catalog.file_page(context.project, *paging, purpose, ascending=order == "asc")
    return listed([as_object(row) for row in rows], more)


def content(context: ProjectContext, file_id: str) -> tuple[Path, str]:
    """The path of the uploaded bytes, and the file's name."""
    row = context.file(file_id)
    path = context.uploads.path(row.sha256)
    if not path.is_file():
        raise NotFound(f"the content of file {file_id} is gone from the disk", param="file_id", code="content_missing")
    return path, row.filename


def delete(context: ProjectContext, file_id: str) -> None:
    """Refused while a job needs the file. The bytes are deleted too, unless another file has the same content."""
    row = context.file(file_id)
    with context.uploads.alone():
        context.stores.catalog.delete_file(context.project, file_id)
        remove_bytes(context.stores.catalog, context.uploads, row.sha256)


def validate(context: ProjectContext, file_id: str) -> FileVerdict:
    """Read the file again and report every bad row, up to SHOWN_ERRORS."""
    record = context.file(file_id)
    if record.purpose != PURPOSE:
        hint = "; import it first" if record.purpose == RAW else ""
        raise UserError(f"file {file_id} is no dataset (purpose {record.purpose}){hint}", param="file_id")
    path, _ = content(context, record.id)
    checked = run(path, storing.checked, path, options_of(record), limits_of(context, SHOWN_ERRORS))
    errors = checked.errors or checked.skipped
    return FileVerdict(
        valid=not checked.errors,
        n_rows=checked.n_rows,
        errors=LineErrors(data=errors, has_more=checked.more),
        ignored_fields=checked.reading.ignored_fields,
        reading=checked.reading,
    )


def preview(context: ProjectContext, file_id: str, request: PreviewRequest) -> Preview:
    """What the file would become as a dataset. Without options of its own the request uses those of the upload."""
    record = context.file(file_id)
    options = ReadOptions.model_validate(request.model_dump(include=set(ReadOptions.model_fields), exclude_unset=True))
    path, _ = content(context, record.id)
    options = options if options.model_fields_set else options_of(record)
    tokens = token_counter(request.student, _folder_of(context, request.student)) if request.student else None
    return run(path, storing.previewed, path, options, limits_of(context, SHOWN_ERRORS), request, tokens)


def _folder_of(context: ProjectContext, student: str) -> Path | None:
    """Raises NotFound for a name that no base model has."""
    base = context.bases.find(student)
    if base is None:
        raise unknown_name("student", student, [known.name for known in context.bases.all()])
    return base.folder


def options_of(record: FileRecord) -> ReadOptions:
    """As the file was uploaded."""
    if record.reading is None:
        return ReadOptions()
    reading = record.reading
    return ReadOptions.model_validate(
        {
            "mapping": reading.mapping,
            "skip_bad": bool(reading.skipped),
            "answers": reading.answers,
            "mask": reading.mask,
            "member": reading.member,
        }
    )


def as_object(file: FileRecord) -> FileObject:
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at),
        expires_at=None if file.expires_at is None else int(file.expires_at),
        filename=file.filename,
        purpose=file.purpose,
        status=file.status,
        status_details=error_summary(file),
        n_rows=file.n_rows,
        splits=file.splits,
        dataset=(file.dataset_id or file.id) if file.n_rows is not None else None,
        version=(file.version or 1) if file.n_rows is not None else None,
        previous=file.previous_id,
        reading=file.reading,
    )


def error_summary(file: FileRecord) -> str | None:
    """The first few bad lines in words; None for a good file."""
    if not file.errors:
        return None
    lines = "; ".join(f"line {e.line}: {e.message[:200]}" for e in islice(file.errors, 5))
    count = f"{len(file.errors)}" if len(file.errors) < STORED_ERRORS else f"at least {STORED_ERRORS}"
    return f"{count} bad line{'s' if file.errors[1:] else ''} ({lines}); POST /v1/files/{file.id}/validate shows all"
