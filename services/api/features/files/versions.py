"""Versions of a dataset: each is a file of its own, with all its rows, that remembers what it was made from."""

import os
import tempfile
from pathlib import Path

from services.api.context import ProjectContext
from services.api.features.files import service as files
from services.api.paging import Paging, listed, page_of
from services.api.rows_page import page_of_rows
from shared.contracts.data import Split
from shared.contracts.errors import UserError
from shared.contracts.versions import DatasetRow, FileDiff, VersionRequest
from shared.contracts.views import FileObject, Listed
from shared.datasets.files import JobData
from shared.datasets.rows import References
from shared.importing import storing
from shared.jobs.records import FileRecord


def add(context: ProjectContext, file_id: str, change: VersionRequest) -> FileObject:
    """Store the file's rows with a change as the next version. Raises NotFound, UserError, StorageFull."""
    base = _dataset(context, file_id, "file_id")
    source = None
    if change.append_file is not None:
        path, _ = files.content(context, change.append_file)
        source = (path, files.options_of(context.file(change.append_file)))
    context.artifacts.check_room(context.files)
    handle, name = tempfile.mkstemp(dir=context.files, prefix=".upload-")
    os.close(handle)
    out, references = Path(name), _references(context, base)
    try:
        paths = [context.artifacts.file(references.rows), *([source[0]] if source else [])]
        longest = max(paths, key=_size)
        made = files.run(
            longest,
            storing.versioned,
            context.artifacts,
            references,
            change,
            source,
            files.limits_of(context, files.STORED_ERRORS),
            out,
            base.reading,
        )
        with context.uploads.alone():
            files.check_quota(context, made.size)
            row = storing.keep_version(context.uploads, context.stores.catalog, context.project, base, made, out)
    finally:
        out.unlink(missing_ok=True)
    return files.as_object(row)


def _size(path: Path) -> int:
    return path.stat().st_size


def page(context: ProjectContext, file_id: str, paging: Paging) -> Listed[FileObject]:
    """The versions of the file's dataset that are not deleted, newest first."""
    base = context.file(file_id)
    versions = context.stores.catalog.versions(context.project, base.dataset_id or base.id)
    return page_of([files.as_object(file) for file in versions], paging, "file")


def diff(context: ProjectContext, file_id: str, against: str | None, paging: Paging) -> FileDiff:
    """against: None is the version that the file was made from. Raises NotFound, UserError."""
    new = _dataset(context, file_id, "file_id")
    other = against or new.previous_id
    if other is None:
        raise UserError(
            f"file {file_id} was made from no other version; name one to compare it with",
            param="against",
            code="missing_required_parameter",
        )
    old = _dataset(context, other, "against")
    references = _references(context, old), _references(context, new)
    longest = max((context.artifacts.file(one.rows) for one in references), key=_size)
    difference, rows, more = files.run(
        longest, storing.diffed, context.artifacts, *references, paging.after, paging.limit
    )
    part = listed(rows, more)
    return FileDiff(
        file=new.id,
        against=old.id,
        removed=len(difference.removed),
        changed=len(difference.changed),
        added=len(difference.added),
        unchanged=difference.unchanged,
        **part.model_dump(exclude={"object"}),
    )


def rows(context: ProjectContext, file_id: str, paging: Paging, split: Split | None) -> Listed[DatasetRow]:
    """In the file's order. Raises NotFound, and UserError for an `after` that is none of them."""
    stored = context.job_rows(JobData(_dataset(context, file_id, "file_id")))
    page, more = page_of_rows(stored, paging, split, "row")
    return listed([DatasetRow(**dict(row)) for row in page], more)


def _dataset(context: ProjectContext, file_id: str, param: str) -> FileRecord:
    file = context.file(file_id)
    if file.rows_ref is None:
        hint = "it has bad lines" if file.status == "error" else f"its purpose is {file.purpose}"
        raise UserError(f"file {file_id} is no dataset: {hint}", param=param, code="invalid_file_format")
    return file


def _references(context: ProjectContext, file: FileRecord) -> References:
    """With columns, which older files get now."""
    return context.job_rows(JobData(file)).training.references
