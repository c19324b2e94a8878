"""Uploaded datasets: checked line by line, split, kept by content hash. Nothing is dropped in silence."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from services.api.context import ApiContext
from shared.contracts.data import LineError, Question, Split, bounded_lines, parse_lines, split_of
from shared.contracts.errors import NotFound, UserError
from shared.contracts.views import FileObject
from shared.datasets.files import PURPOSE, only_one
from shared.jobs.records import FileRecord

KEPT_ERRORS = 100  # stored with the file
SHOWN_ERRORS = 1000  # found anew and shown by `validate`
RAW = "user_data"  # OpenAI's name for what is kept as it is: here what an import reads
PURPOSES = (PURPOSE, RAW)


class Received(NamedTuple):
    """A finished upload: where its bytes lie for now, their SHA-256 and number, and what the client called it."""

    path: Path
    sha256: str
    size: int
    filename: str
    purpose: str


class CheckedFile(NamedTuple):
    """n_rows: good rows. errors: as many as were asked for; more: the reading stopped there."""

    n_rows: int
    splits: dict[str, int]
    errors: list[LineError]
    more: bool
    ignored: Counter[str]  # fields that are not read, and in how many rows they stand


def add(context: ApiContext, project: str, upload: Received) -> FileObject:
    """Check and store an upload. A file with bad lines is stored with status error; an empty one is refused."""
    if upload.purpose not in PURPOSES:
        raise UserError(f"purpose must be {' or '.join(PURPOSES)}", param="purpose", code="invalid_value")
    content = _raw(upload) if upload.purpose == RAW else _rows(context, upload)
    with only_one(context.files):
        check_room(context, project, upload.size)  # before its bytes are there for good
        os.replace(upload.path, context.files / upload.sha256)
        row = context.stores.catalog.add_file(
            project,
            sha256=upload.sha256,
            bytes=upload.size,
            filename=clean_filename(upload.filename),
            purpose=upload.purpose,
            **content,
        )
    return as_object(row)


def check_room(context: ApiContext, project: str, size: int) -> None:
    """Raises StorageFull. size: bytes to come, at least."""
    context.stores.catalog.check_room(project, size)


def _raw(upload: Received) -> dict[str, Any]:
    if not upload.size:
        raise UserError("the file is empty", param="file", code="empty_file")
    return {"status": "processed", "errors": []}


def _rows(context: ApiContext, upload: Received) -> dict[str, Any]:
    checked = check(context, upload.path, KEPT_ERRORS)
    if not checked.errors and not checked.n_rows:
        raise UserError("the file has no rows; one JSON object per line is expected", param="file", code="empty_file")
    if checked.errors:
        return {"status": "error", "errors": [error.model_dump() for error in checked.errors]}
    reference = context.artifacts.put_rows(_split_rows(context, upload.path))
    return {
        "status": "processed",
        "errors": [],
        "n_rows": checked.n_rows,
        "splits": checked.splits,
        "rows_ref": reference,
    }


def check(context: ApiContext, path: Path, max_errors: int) -> CheckedFile:
    """Read the whole file in constant memory (ids that it gives aside), or up to `max_errors` bad lines."""
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
            splits[_split(context, item)] += 1
            if sum(splits.values()) > context.settings.max_rows:
                raise UserError(
                    f"more than {context.settings.max_rows} rows; divide the file", param="file", code="too_many_rows"
                )
    return CheckedFile(sum(splits.values()), splits, errors, False, ignored)


def _split(context: ApiContext, row: Question) -> Split:
    return split_of(row, context.settings.dev_share, context.settings.test_share)


def _split_rows(context: ApiContext, path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that was found good, each with its split."""
    with path.open("rb") as file:
        for item in parse_lines(bounded_lines(file)):
            if isinstance(item, Question):
                yield item.model_copy(update={"split": _split(context, item)}).model_dump(mode="json")


def clean_filename(name: str) -> str:
    """The last part of the name, without control characters, short enough for its column."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in last if c.isprintable())[:255] or "upload.jsonl"


def get(context: ApiContext, project: str, file_id: str) -> FileObject:
    return as_object(context.stores.catalog.file(project, file_id))


def page(context: ApiContext, project: str, after: str | None, limit: int) -> tuple[list[FileObject], bool]:
    rows, more = context.stores.catalog.file_page(project, after, limit)
    return [as_object(row) for row in rows], more


def content(context: ApiContext, project: str, file_id: str) -> tuple[Path, str]:
    """Where the uploaded bytes lie, and the file's name."""
    row = context.stores.catalog.file(project, file_id)
    path = context.files / row.sha256
    if not path.is_file():
        raise NotFound(f"the content of file {file_id} is gone from the disk", param="file_id", code="content_missing")
    return path, row.filename


def delete(context: ApiContext, project: str, file_id: str) -> None:
    """Refused while a job needs the file. The bytes go too, unless another file has the same content."""
    row = context.stores.catalog.file(project, file_id)
    with only_one(context.files):
        context.stores.catalog.delete_file(project, file_id)
        if not context.stores.catalog.keeps(row.sha256):
            (context.files / row.sha256).unlink(missing_ok=True)


def validate(context: ApiContext, project: str, file_id: str) -> dict[str, Any]:
    """{valid, n_rows, errors, ignored_fields}: every bad line up to SHOWN_ERRORS, read from the file anew."""
    path, _ = content(context, project, file_id)
    purpose = context.stores.catalog.file(project, file_id).purpose
    if purpose != PURPOSE:
        hint = "; import it first" if purpose == RAW else ""
        raise UserError(f"file {file_id} is no dataset (purpose {purpose}){hint}", param="file_id")
    checked = check(context, path, SHOWN_ERRORS)
    errors = {"object": "list", "data": [error.model_dump() for error in checked.errors], "has_more": checked.more}
    return {"valid": not checked.errors, "n_rows": checked.n_rows, "errors": errors} | {
        "ignored_fields": dict(checked.ignored)
    }


def as_object(row: FileRecord) -> FileObject:
    return FileObject(
        id=row.id,
        bytes=row.bytes,
        created_at=int(row.created_at),
        filename=row.filename,
        purpose=row.purpose,
        status=row.status,
        status_details=error_summary(row),
        n_rows=row.n_rows,
        splits=row.splits,
    )


def error_summary(row: FileRecord) -> str | None:
    """The first few bad lines in words; None for a good file."""
    if not row.errors:
        return None
    lines = "; ".join(f"line {e.line}: {e.message[:200]}" for e in islice(row.errors, 5))
    count = f"{len(row.errors)}" if len(row.errors) < KEPT_ERRORS else f"at least {KEPT_ERRORS}"
    return f"{count} bad line{'s' if row.errors[1:] else ''} ({lines}); POST /v1/files/{row.id}/validate shows all"
