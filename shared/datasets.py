"""How a dataset comes to lie among the uploads: its bytes by content hash, its rows with their splits as an artifact."""

import fcntl
import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.artifacts import Artifacts
from shared.contracts.data import LineError, Question, Split, parse_line, split_of
from shared.contracts.errors import FatalError
from shared.jobs.catalog import Catalog

PURPOSE = "fine-tune"


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
    rows: Sequence[dict[str, Any]],
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
    content = b"".join(line + b"\n" for line in lines)
    artifacts.check_room(folder)
    with only_one(folder):
        handle, name = tempfile.mkstemp(dir=folder, prefix=".upload-")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        digest = hashlib.sha256(content).hexdigest()
        os.replace(name, folder / digest)
        catalog.add_file(
            project,
            id=about["id"],
            sha256=digest,
            bytes=len(content),
            filename=about["filename"],
            purpose=PURPOSE,
            status="processed",
            errors=[],
            n_rows=len(questions),
            splits={split.value: count[split] for split in Split},
            rows_ref=reference,
        )


def _split(item: Question | LineError | None, dev: float, test: float) -> Question:
    if not isinstance(item, Question):
        raise FatalError(f"a row was made that cannot be uploaded: {item}")
    return item.model_copy(update={"split": split_of(item, dev, test)})
