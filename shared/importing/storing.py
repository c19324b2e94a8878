"""Functions over whole data files that a service runs aside: each opens its file by itself and returns little."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from shared.artifacts.store import Artifacts
from shared.artifacts.token_counts import TokenCounter
from shared.artifacts.uploads import Uploads
from shared.contracts.data import LineError, Question, Reading, as_upload, parse_rows
from shared.contracts.errors import StorageFull, UserError
from shared.contracts.file_reading import FileReading, Preview, PreviewRequest, ReadOptions
from shared.contracts.json_types import Json
from shared.contracts.steps import canonical
from shared.contracts.versions import RowChange, VersionRequest
from shared.datasets.files import PURPOSE, remove_bytes
from shared.datasets.likeness import likeness_words
from shared.datasets.rows import References, Spool, StoredRows
from shared.datasets.splits import Splitter
from shared.datasets.versions import Differences, changed_rows, differences, edits_by_id
from shared.importing import dataset
from shared.importing.dataset import Checked, DataFile
from shared.importing.personal_data import masked_question
from shared.jobs.catalog import Catalog, ChatsGone, Outdated
from shared.jobs.records import FileRecord


class Limits(NamedTuple):
    """dev, test: shares of the split. errors: bad rows that are listed. rows: the longest dataset."""

    dev: float
    test: float
    errors: int
    rows: int


def stored(path: Path, options: ReadOptions, limits: Limits, artifacts: Artifacts) -> tuple[Checked, References | None]:
    """Check a file and store its rows with their splits. None: it has none, or bad ones. Raises UserError, DiskLow."""
    spool, splitter = Spool(), Splitter(limits.dev, limits.test)
    checked = dataset.check(DataFile.open(path, options), splitter, limits.errors, limits.rows, spool=spool)
    if checked.errors or not checked.n_rows:
        return checked, None
    return checked, spool.store(artifacts, checked.assigned, splitter)


def checked(path: Path, options: ReadOptions, limits: Limits) -> Checked:
    """Raises UserError."""
    return dataset.check(DataFile.open(path, options), None, limits.errors, limits.rows)


def previewed(
    path: Path, options: ReadOptions, limits: Limits, request: PreviewRequest, tokens: TokenCounter | None = None
) -> Preview:
    """Raises UserError."""
    return dataset.preview(DataFile.open(path, options), request, limits.dev, limits.test, limits.rows, tokens)


def keep_version(
    uploads: Uploads, catalog: Catalog, project: str, base: FileRecord, made: "Version", content: Path, **more: Any
) -> FileRecord:
    """Add a version of `base` to the catalog, with its content. Only within `uploads.alone`. more: for `Catalog.add_file`, which see.
    Raises StorageFull, Outdated, ChatsGone."""
    uploads.add(content, made.sha256)
    try:
        row = catalog.add_file(
            project,
            sha256=made.sha256,
            bytes=made.size,
            filename=base.filename,
            purpose=PURPOSE,
            status="processed",
            errors=[],
            n_rows=made.n_rows,
            splits=made.splits,
            rows_ref=made.references.rows,
            columns_ref=made.references.columns,
            reading=made.reading.model_dump(mode="json"),
            dataset_id=base.dataset_id or base.id,
            previous_id=base.id,
            **more,
        )
    except (StorageFull, Outdated, ChatsGone):
        remove_bytes(catalog, uploads, made.sha256)
        raise
    uploads.check(made.sha256)
    return row


class Version(NamedTuple):
    """A new version that lies in a file. sha256, size: of the file's bytes."""

    n_rows: int
    splits: dict[str, int]
    references: References
    reading: FileReading
    sha256: str
    size: int


def versioned(
    artifacts: Artifacts,
    base: References,
    change: VersionRequest,
    source: tuple[Path, ReadOptions] | None,
    limits: Limits,
    out: Path,
    before: FileReading | None = None,
) -> Version:
    """The rows of `base` with a change, stored, and written to `out` as JSONL. source: the file whose rows are appended. before: how
    `base` was read; what was dropped then stays told, and rows are masked as there (masked ones stay as they are). Raises UserError,
    DiskLow."""
    before = before or FileReading(format="as it stands")
    mask, masked = before.mask, Counter[str]()
    read, skipped = Reading(), Counter(before.skipped)
    rows, spool, splitter = StoredRows(artifacts, base), Spool(), Splitter(limits.dev, limits.test)
    appended = chain(_given(change.append), _read(*source, read, skipped) if source else ())
    counted = references = 0
    for item, keeps in changed_rows(rows, edits_by_id(change.edit), {*change.remove}, appended):
        row = masked_question(item, masked) if mask else item
        counted += 1
        if counted > limits.rows:
            raise dataset.TooManyRows(f"more than {limits.rows} rows; divide the dataset", param="append")
        references += row.reference is not None
        splitter.add(row, keeps)
        spool.add(row)
    if not counted:
        raise UserError("no row is left", param="remove", code="empty_file")
    assigned = splitter.assign()
    stored_as = spool.store(artifacts, assigned, splitter)
    digest, size = hashlib.sha256(), 0
    with out.open("wb") as file:
        for row in StoredRows(artifacts, stored_as):
            line = canonical(as_upload(row) | {"split": row.split}) + b"\n"
            digest.update(line)
            size += file.write(line)
        file.flush()
        os.fsync(file.fileno())
    reading = FileReading(
        format="a version that was made of another one's rows",
        shapes={"question and reference": counted},
        references=references,
        ignored_fields=dict(read.ignored + Counter(before.ignored_fields)),
        notes=dict(read.notes + Counter(before.notes)),
        skipped=dict(skipped),
        linked=assigned.linked,
        left=assigned.left,
        mask=mask,
        masked=dict(masked + read.masked + Counter(before.masked)),
        warnings=likeness_words(assigned.linked, assigned.left),
    )
    return Version(counted, assigned.counts, stored_as, reading, digest.hexdigest(), size)


def _given(rows: list[Json]) -> Iterator[Question]:
    for item in parse_rows((number, row) for number, row in enumerate(rows, start=1)):
        if isinstance(item, LineError):
            raise UserError(f"append.{item.line - 1}: {item.message}", param=f"append.{item.line - 1}", code=item.code)
        yield item


def _read(path: Path, options: ReadOptions, seen: Reading, skipped: Counter[str]) -> Iterator[Question]:
    for item in DataFile.open(path, options).rows(seen):
        if isinstance(item, Question):
            yield item
        elif not options.skip_bad:
            raise UserError(f"line {item.line}: {item.message}", param="append_file", code=item.code)
        else:
            skipped[f"{item.param or 'row'}: {item.code}"] += 1


def diffed(
    artifacts: Artifacts, old: References, new: References, after: str | None, limit: int
) -> tuple[Differences, list[RowChange], bool]:
    """A page of what differs, and whether there is more. Raises UserError."""
    before, here = StoredRows(artifacts, old), StoredRows(artifacts, new)
    difference = differences(before, here)
    return difference, *difference.page(before, here, after, limit)
