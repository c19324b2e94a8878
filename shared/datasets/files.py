"""How a dataset comes to lie among the uploads: its bytes by content hash, its rows with their splits as an artifact. And which
rows a job works on."""

import fcntl
import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from shared.artifacts.store import Artifacts
from shared.contracts.data import LineError, Question, Split, parse_line, split_of, with_validation
from shared.contracts.errors import FatalError, StorageFull
from shared.contracts.json_types import Json
from shared.jobs.catalog import Catalog
from shared.jobs.records import FileRecord, JobRecord

PURPOSE, RESULTS = "fine-tune", "fine-tune-results"  # what jobs read, and what they leave; OpenAI's names


class JobData(NamedTuple):
    """The files of a job, as rows of `files`. With one for validation its rows are dev, and what was dev in the other is
    learned from."""

    training: FileRecord
    validation: FileRecord | None = None

    @property
    def splits(self) -> dict[Split, int]:
        """Rows of each."""
        found = {split: (self.training.splits or {}).get(split.value, 0) for split in Split}
        if self.validation is not None:
            found[Split.TRAIN] += found[Split.DEV]
            found[Split.DEV] = self.validation.n_rows or 0
        return found

    def rows(self, artifacts: Artifacts) -> list[Question]:
        """All of them with their splits. Raises ArtifactMissing."""
        found = rows_of(self.training, artifacts)
        return found if self.validation is None else with_validation(found, rows_of(self.validation, artifacts))


def rows_of(file: FileRecord, artifacts: Artifacts) -> list[Question]:
    return [Question(**row) for row in artifacts.get_json(file.rows_ref)]


def data_of(job: JobRecord, find: Callable[[str], FileRecord]) -> JobData:
    """find: a file by its id."""
    validation = job.request.get("validation_file")
    return JobData(find(str(job.file_id)), find(validation) if validation else None)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """An upload and a deletion of the same content are kept apart, in all processes that share the folder."""
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def add_made_file(
    catalog: Catalog,
    artifacts: Artifacts,
    folder: Path,
    project: str,
    rows: Sequence[Json],
    **about: Any,
) -> None:
    """Rows that this program made, as an uploaded file with the id `about` names. about: id, filename, dev, test (shares).

    A second call with the same id changes nothing. Raises FatalError for a row that an upload would refuse.
    """
    dev, test = about["dev"], about["test"]
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    questions = [_split(parse_line(number, line), dev, test) for number, line in enumerate(lines, start=1)]
    count = Counter(question.split for question in questions)
    reference = artifacts.put_rows(question.model_dump(mode="json") for question in questions)
    values = {
        "id": about["id"],
        "filename": about["filename"],
        "purpose": PURPOSE,
        "status": "processed",
        "errors": [],
        "n_rows": len(questions),
        "splits": {split.value: count[split] for split in Split},
        "rows_ref": reference,
    }
    add_bytes(catalog, artifacts, folder, project, b"".join(line + b"\n" for line in lines), **values)


def add_bytes(
    catalog: Catalog, artifacts: Artifacts, folder: Path, project: str, content: bytes, **values: Any
) -> None:
    """A file that this program made, among the uploads. values: of its row, its id among them; a second call with the same id
    changes nothing. Raises StorageFull, DiskLow."""
    artifacts.check_room(folder)
    with only_one(folder):
        handle, name = tempfile.mkstemp(dir=folder, prefix=".upload-")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        digest = hashlib.sha256(content).hexdigest()
        os.replace(name, folder / digest)
        try:
            catalog.add_file(project, sha256=digest, bytes=len(content), **values)
        except StorageFull:
            if not catalog.keeps(digest):
                (folder / digest).unlink()
            raise


def _split(item: Question | LineError | None, dev: float, test: float) -> Question:
    if not isinstance(item, Question):
        raise FatalError(f"a row was made that cannot be uploaded: {item}")
    return item.model_copy(update={"split": split_of(item, dev, test)})
