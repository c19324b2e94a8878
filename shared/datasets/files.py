"""Dataset files: storing generated ones like uploads (bytes by content hash, rows with splits as an artifact), and reading a job's
rows."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from shared.artifacts.store import ArtifactMissing, Artifacts, temporary_file
from shared.artifacts.uploads import Uploads
from shared.contracts.data import LineError, Question, Split, parse_line
from shared.contracts.distillation import Distillation, Phase
from shared.contracts.errors import FatalError, StorageFull
from shared.contracts.file_reading import FileReading
from shared.contracts.grader_kinds import reads_items
from shared.contracts.json_types import Json
from shared.contracts.report import UsedFile
from shared.datasets.likeness import likeness_words
from shared.datasets.rows import Items, JobRows, References, StoredRows, columns_of, stored
from shared.datasets.splits import Splitter
from shared.jobs.catalog import Catalog, ChatsGone
from shared.jobs.records import FileRecord, JobRecord

PURPOSE, RESULTS = "fine-tune", "fine-tune-results"  # OpenAI's names for training files and result files


class JobData(NamedTuple):
    """The files of a job. A validation file replaces the dev split; the training file's dev rows then belong to train."""

    training: FileRecord
    validation: FileRecord | None = None

    @property
    def splits(self) -> dict[Split, int]:
        """Number of rows of each split."""
        counts = {split: (self.training.splits or {}).get(split.value, 0) for split in Split}
        if self.validation is not None:
            counts[Split.TRAIN] += counts[Split.DEV]
            counts[Split.DEV] = self.validation.n_rows or 0
        return counts

    def rows(
        self,
        artifacts: Artifacts,
        catalog: Catalog,
        make: "MakeColumns" = columns_of,
        items: Items = Items.LEFT_OUT,
    ) -> JobRows:
        """Raises ArtifactMissing."""
        validation = None if self.validation is None else rows_of(self.validation, artifacts, catalog, make)
        used = [_used(field, file) for field, file in zip(self._fields, self, strict=True) if file is not None]
        return JobRows(rows_of(self.training, artifacts, catalog, make), validation, used, items)


def _used(field: str, file: FileRecord) -> UsedFile:
    reading = file.reading or FileReading(format="as it stands")
    return UsedFile(
        field=f"{field}_file",
        file=file.id,
        dataset=file.dataset_id or file.id,
        version=file.version or 1,
        left=reading.left,
        skipped=reading.skipped,
        notes=reading.notes,
        ignored_fields=reading.ignored_fields,
        masked=reading.masked,
    )


def items_in(spec: Distillation) -> Items:
    """What a job does with the rows' further fields."""
    if not any(reads_items(grader) for grader in spec.verifying):
        return Items.LEFT_OUT
    learns_references = Phase.DISTILL in spec.phases or spec.evolve.pairs == "file"
    decides = [grader for grader in (spec.primary_metric, spec.judge.grader) if grader is not None]
    return Items.KEPT if learns_references or not all(map(reads_items, decides)) else Items.REFERENCES


MakeColumns = Callable[[Artifacts, str], str]


def rows_of(file: FileRecord, artifacts: Artifacts, catalog: Catalog, make: MakeColumns = columns_of) -> StoredRows:
    """The stored rows of a dataset. Of a file from before there were columns they are made now, by `make`, in one pass over its
    rows. Raises ArtifactMissing."""
    if file.rows_ref is None:
        raise ArtifactMissing(f"file {file.id} has no checked rows")
    columns = file.columns_ref
    if columns is None or not artifacts.has(columns):
        columns = make(artifacts, file.rows_ref)
        catalog.set_columns(file.id, columns)
    return StoredRows(artifacts, References(file.rows_ref, columns))


def data_of(job: JobRecord, find: Callable[[str], FileRecord]) -> JobData:
    """find: a file by its id."""
    validation = job.request.get("validation_file")
    return JobData(find(str(job.file_id)), find(validation) if validation else None)


def remove_bytes(catalog: Catalog, uploads: Uploads, sha256: str) -> None:
    """Unless another file has the same content. Only within `uploads.alone()`."""
    uploads.remove(sha256, lambda: catalog.keeps(sha256))


def remove_expired(catalog: Catalog, uploads: Uploads, dry_run: bool = False) -> int:
    """Delete (dry_run: count) the files whose time has come, with their bytes; returns how many."""
    files = catalog.expire_files(dry_run=True)
    if dry_run or not files:
        return len(files)
    with uploads.alone():
        expired = catalog.expire_files()
        for sha256 in expired:
            remove_bytes(catalog, uploads, sha256)
    return len(expired)


def add_made_file(
    catalog: Catalog,
    artifacts: Artifacts,
    uploads: Uploads,
    project: str,
    rows: Sequence[Json],
    **about: Any,
) -> None:
    """Store generated rows like an uploaded file. about: id, filename, the shares dev and test; skipped: what was left out of the
    source, by reason; mask and masked as in FileReading; of_chats: as for `Catalog.add_file`.

    A second call with the same id changes nothing. Raises FatalError for a row that an upload would refuse.
    """
    dev, test = about["dev"], about["test"]
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    questions = [_checked(parse_line(number, line)) for number, line in enumerate(lines, start=1)]
    references, assigned = stored(artifacts, questions, Splitter(dev, test))
    references_given = sum(question.reference is not None for question in questions)
    reading = FileReading(
        format="rows that a job made",
        shapes={"question and reference": len(questions)},
        references=references_given,
        skipped=dict(about.get("skipped", {})),
        split_by=assigned.by,
        linked=assigned.linked,
        left=assigned.left,
        mask=about.get("mask", False),
        masked=about.get("masked", {}),
        warnings=likeness_words(assigned.linked, assigned.left),
    )
    values = {
        "id": about["id"],
        "filename": about["filename"],
        "purpose": PURPOSE,
        "status": "processed",
        "errors": [],
        "reading": reading.model_dump(mode="json"),
        "n_rows": len(questions),
        "splits": assigned.counts,
        "rows_ref": references.rows,
        "columns_ref": references.columns,
        "of_chats": about.get("of_chats", ()),
    }
    add_bytes(catalog, artifacts, uploads, project, b"".join(line + b"\n" for line in lines), **values)


def add_bytes(
    catalog: Catalog, artifacts: Artifacts, uploads: Uploads, project: str, content: bytes, **values: Any
) -> None:
    """Store generated bytes like an uploaded file. values: by column of `files`, with the id; a second call with the same id
    changes nothing. Raises StorageFull, DiskLow, ChatsGone."""
    folder = uploads.folder
    artifacts.check_room(folder)
    with uploads.alone():
        digest = hashlib.sha256(content).hexdigest()
        with temporary_file(folder, prefix=".upload-") as (file, name):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            uploads.add(name, digest)
        try:
            catalog.add_file(project, sha256=digest, bytes=len(content), **values)
        except (StorageFull, ChatsGone):
            remove_bytes(catalog, uploads, digest)
            raise
        uploads.check(digest)


def _checked(item: Question | LineError | None) -> Question:
    if not isinstance(item, Question):
        raise FatalError(f"a generated row is no valid dataset row: {item}")
    return item
