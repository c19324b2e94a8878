"""Uploaded datasets: checked line by line, split, stored by content hash. Bad lines are reported, never dropped silently."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from services.api.context import ApiContext, ProjectContext
from services.api.paging import Paging, listed
from services.api.settings import ApiSettings
from shared.contracts.data import LineError, Question, Split, bounded_lines, parse_lines, split_of
from shared.contracts.errors import NotFound, UserError
from shared.contracts.views import FileObject, FileVerdict, LineErrors, Listed
from shared.datasets.files import PURPOSE, only_one
from shared.jobs.records import FileRecord

STORED_ERRORS = 100  # with the file's row
SHOWN_ERRORS = 1000  # by `validate`, which reads the file again
RAW = "user_data"  # OpenAI's purpose for files that are stored unchecked; imports read them
PURPOSES = (PURPOSE, RAW)
MOST_LISTED = 10_000  # OpenAI's, for the default too


class Received(NamedTuple):
    """A finished upload: the path of its temporary file, the SHA-256 and number of its bytes, and the client's name for it."""

    path: Path
    sha256: str
    size: int
    filename: str
    purpose: str


class CheckedFile(NamedTuple):
    """n_rows: good rows. errors: up to the requested number; more: reading stopped there."""

    n_rows: int
    splits: dict[str, int]
    errors: list[LineError]
    more: bool
    ignored: Counter[str]  # unknown fields, and how many rows have them


def add(context: ProjectContext, upload: Received) -> FileObject:
    """Check and store an upload. A file with bad lines is stored with status error; an empty one is refused."""
    if upload.purpose not in PURPOSES:
        raise UserError(f"purpose must be {' or '.join(PURPOSES)}", param="purpose", code="invalid_value")
    columns = _raw_columns(upload) if upload.purpose == RAW else _dataset_columns(context, upload)
    with only_one(context.files):
        check_quota(context, upload.size)  # before the bytes are stored
        os.replace(upload.path, context.files / upload.sha256)
        row = context.stores.catalog.add_file(
            context.project,
            sha256=upload.sha256,
            bytes=upload.size,
            filename=clean_filename(upload.filename),
            purpose=upload.purpose,
            **columns,
        )
    return _as_object(row)


def check_quota(context: ProjectContext, size: int) -> None:
    """Raises StorageFull. size: lower bound of the bytes to come."""
    context.stores.catalog.check_room(context.project, size)


def _raw_columns(upload: Received) -> dict[str, Any]:
    if not upload.size:
        raise UserError("the file is empty", param="file", code="empty_file")
    return {"status": "processed", "errors": []}


def _dataset_columns(context: ApiContext, upload: Received) -> dict[str, Any]:
    checked = check(context, upload.path, STORED_ERRORS)
    if not checked.errors and not checked.n_rows:
        raise UserError("the file has no rows; one JSON object per line is expected", param="file", code="empty_file")
    if checked.errors:
        return {"status": "error", "errors": [error.model_dump() for error in checked.errors]}
    return {
        "status": "processed",
        "errors": [],
        "n_rows": checked.n_rows,
        "splits": checked.splits,
        "rows_ref": context.artifacts.put_rows(_split_rows(context, upload.path)),
    }


def check(context: ApiContext, path: Path, max_errors: int) -> CheckedFile:
    """Read the file to its end, or up to `max_errors` bad lines. Memory grows with the ids in the file only."""
    splits = dict.fromkeys((split.value for split in Split), 0)
    errors: list[LineError] = []
    ignored: Counter[str] = Counter()
    with path.open("rb") as file:
        for item in parse_lines(bounded_lines(file), ignored):
            if isinstance(item, LineError):
                if len(errors) == max_errors:
                    return CheckedFile(sum(splits.values()), splits, errors, True, ignored)
                errors.append(item)
                continue
            splits[_split(context.settings, item)] += 1
            if sum(splits.values()) > context.settings.max_rows:
                raise UserError(
                    f"more than {context.settings.max_rows} rows; divide the file", param="file", code="too_many_rows"
                )
    return CheckedFile(sum(splits.values()), splits, errors, False, ignored)


def _split(settings: ApiSettings, row: Question) -> Split:
    return split_of(row, settings.dev_share, settings.test_share)


def _split_rows(context: ApiContext, path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file without bad lines, each with its split."""
    with path.open("rb") as file:
        for item in parse_lines(bounded_lines(file)):
            if isinstance(item, Question):
                yield item.model_copy(update={"split": _split(context.settings, item)}).model_dump(mode="json")


def clean_filename(name: str) -> str:
    """The last part of the name, without control characters, short enough for its column."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in last if c.isprintable())[:255] or "upload.jsonl"


def get(context: ProjectContext, file_id: str) -> FileObject:
    return _as_object(context.file(file_id))


def page(context: ProjectContext, paging: Paging, purpose: str | None, order: str) -> Listed[FileObject]:
    rows, more = context.stores.catalog.file_page(context.project, *paging, purpose, ascending=order == "asc")
    return listed([_as_object(row) for row in rows], more)


def content(context: ProjectContext, file_id: str) -> tuple[Path, str]:
    """The path of the uploaded bytes, and the file's name."""
    row = context.file(file_id)
    path = context.files / row.sha256
    if not path.is_file():
        raise NotFound(f"the content of file {file_id} is gone from the disk", param="file_id", code="content_missing")
    return path, row.filename


def delete(context: ProjectContext, file_id: str) -> None:
    """Refused while a job needs the file. The bytes are deleted too, unless another file has the same content."""
    row = context.file(file_id)
    with only_one(context.files):
        context.stores.catalog.delete_file(context.project, file_id)
        if not context.stores.catalog.keeps(row.sha256):
            (context.files / row.sha256).unlink(missing_ok=True)


def validate(context: ProjectContext, file_id: str) -> FileVerdict:
    """Read the file again and report every bad line, up to SHOWN_ERRORS."""
    path, _ = content(context, file_id)
    purpose = context.file(file_id).purpose
    if purpose != PURPOSE:
        hint = "; import it first" if purpose == RAW else ""
        raise UserError(f"file {file_id} is no dataset (purpose {purpose}){hint}", param="file_id")
    checked = check(context, path, SHOWN_ERRORS)
    return FileVerdict(
        valid=not checked.errors,
        n_rows=checked.n_rows,
        errors=LineErrors(data=checked.errors, has_more=checked.more),
        ignored_fields=dict(checked.ignored),
    )


def _as_object(file: FileRecord) -> FileObject:
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at),
        filename=file.filename,
        purpose=file.purpose,
        status=file.status,
        status_details=error_summary(file),
        n_rows=file.n_rows,
        splits=file.splits,
    )


def error_summary(file: FileRecord) -> str | None:
    """The first few bad lines in words; None for a good file."""
    if not file.errors:
        return None
    lines = "; ".join(f"line {e.line}: {e.message[:200]}" for e in islice(file.errors, 5))
    count = f"{len(file.errors)}" if len(file.errors) < STORED_ERRORS else f"at least {STORED_ERRORS}"
    return f"{count} bad line{'s' if file.errors[1:] else ''} ({lines}); POST /v1/files/{file.id}/validate shows all"
