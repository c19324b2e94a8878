"""The rows of a dataset on the disk: written with columns beside them, read a page or a stream at a time."""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from functools import cached_property
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, NamedTuple

from shared.artifacts.store import ArtifactMissing, Artifacts, as_array
from shared.contracts.data import MAX_ID, REFERENCES_LEAST, VALIDATION, Question, Split
from shared.contracts.report import UsedFile
from shared.datasets.columns import (
    HAS_ITEM,
    HAS_MESSAGES,
    HAS_REFERENCE,
    HAS_REJECTED,
    Columns,
    DamagedColumns,
    written,
)
from shared.datasets.grouping import IN_MEMORY, Column
from shared.datasets.likeness import Likeness, hashed, keys_of
from shared.datasets.splits import CODES, SPLITS, Assigned, Splitter
from shared.plan.rates import Lengths

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np

    Places = Sequence[int] | np.ndarray  # of rows in a file, from 0

AT_ONCE = 1 << 20  # bytes of rows that are read together
READ = 1 << 16
WITHOUT_SPLIT, WITHOUT_BOTH = {"split"}, {"split", "group"}


class References(NamedTuple):
    """Artifacts: the rows, and the columns beside them."""

    rows: str
    columns: str


class Spool:
    """Rows on their way to the disk: as they come, then once more with their splits. Memory does not grow with their number."""

    def __init__(self) -> None:
        self._file: IO[bytes] = TemporaryFile()  # noqa: SIM115  it lives as long as the spool
        self._notes = _Notes()
        self._grouped = bytearray()  # whether each row has a group of its own

    def add(self, row: Question) -> None:
        self._notes.add(row)
        without = WITHOUT_SPLIT if row.group else WITHOUT_BOTH
        self._file.write(row.__pydantic_serializer__.to_json(row, exclude=without) + b"\n")
        self._grouped.append(bool(row.group))

    def store(self, artifacts: Artifacts, assigned: Assigned, splitter: Splitter) -> References:
        """splitter: that has assigned the splits of these rows. Raises DiskLow."""
        rows = artifacts.put_parts(as_array(self._rows(assigned)))
        keys = (splitter.keys(Likeness.GROUP), splitter.keys(Likeness.QUESTION))
        return References(rows, artifacts.put_parts(written(self._notes.columns(assigned.codes, *keys))))

    def _rows(self, assigned: Assigned) -> Iterator[bytes]:
        self._file.seek(0)
        ends = [f',"split":"{split.value}"}}'.encode() for split in SPLITS]
        names = memoryview(assigned.groups).cast("Q")
        for line, code, given, name in zip(self._file, assigned.codes, self._grouped, names, strict=True):
            group = b"" if given else b',"group":"like-%016x"' % name if name else b',"group":null'
            row = line[:-2] + group + ends[code]
            self._notes.add_bytes(row)
            yield row


class _Notes:
    """What the columns tell of rows as they pass."""

    def __init__(self) -> None:
        self._ids, self._offsets, self._checksums = Column("Q"), Column("Q"), Column("I")
        self._questions, self._references, self._flags = Column("I"), Column("I"), Column("B")
        self._teacher = Column("I")
        self._next = 1  # behind the bracket of the array

    def add(self, row: Question) -> None:
        reference = row.reference
        self._ids.add(hashed(row.id))
        self._questions.add(utf8_bytes(row.text))
        self._references.add(0 if reference is None else utf8_bytes(reference))
        self._teacher.add(0 if row.teacher_context is None else utf8_bytes(row.teacher_context))
        self._flags.add(
            (0 if reference is None else HAS_REFERENCE)
            | (0 if row.rejected is None else HAS_REJECTED)
            | (0 if row.messages is None else HAS_MESSAGES)
            | (0 if row.item is None else HAS_ITEM)
        )
        if len(self._ids) >= IN_MEMORY:
            for column in (self._ids, self._questions, self._references, self._teacher, self._flags):
                column.spill()

    def add_bytes(self, row: bytes) -> None:
        self._offsets.add(self._next)
        self._checksums.add(zlib.crc32(row))
        self._next += len(row) + 1
        if len(self._offsets) >= IN_MEMORY:
            self._offsets.spill()
            self._checksums.spill()

    def columns(self, codes: bytes, group: "np.ndarray", question: "np.ndarray") -> dict[str, "np.ndarray"]:
        import numpy as np

        self._offsets.add(self._next)
        ids = self._ids.all()
        order = np.argsort(ids, kind="stable")
        return {
            "offset": self._offsets.all(), "id": ids[order], "place": order, "crc": self._checksums.all(), "group": group,
            "question": question, "question_bytes": self._questions.all(), "reference_bytes": self._references.all(),
            "teacher_bytes": self._teacher.all(), "flags": self._flags.all(), "split": np.frombuffer(codes, dtype=np.uint8),
        }  # fmt: skip


def utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def stored(artifacts: Artifacts, rows: Iterable[Question], splitter: Splitter) -> tuple[References, Assigned]:
    """Rows that are at hand, split and written. Raises DiskLow."""
    spool = Spool()
    for row in rows:
        splitter.add(row)
        spool.add(row)
    assigned = splitter.assign()
    return spool.store(artifacts, assigned, splitter), assigned


def columns_of(artifacts: Artifacts, rows_ref: str) -> str:
    """The columns of rows that were stored without them. Raises ArtifactMissing, DiskLow."""
    notes, codes = _Notes(), bytearray()
    group, question = Column(), Column()
    for raw in _array_items(artifacts, rows_ref):
        row = Question.model_validate_json(raw)
        notes.add(row)
        notes.add_bytes(raw)
        keys = keys_of(row)
        group.add(keys.group)
        question.add(keys.question)
        group.spill()
        question.spill()
        codes.append(CODES[row.split or Split.TRAIN])
    return artifacts.put_parts(written(notes.columns(bytes(codes), group.all(), question.all())))


def _array_items(artifacts: Artifacts, rows_ref: str) -> Iterator[bytes]:
    """The rows of a stored array, as their bytes."""
    decoder = json.JSONDecoder()
    with artifacts.file(rows_ref).open(encoding="utf-8", newline="") as file:
        text, place = file.read(READ), 1
        while True:
            if text[place : place + 1] == "]":
                return
            try:
                _, end = decoder.raw_decode(text, place)
                if end == len(text):  # a number might go on; a row is an object, so only its separator is missing
                    raise json.JSONDecodeError("cut off", "", 0)
            except json.JSONDecodeError as error:
                more = file.read(max(READ, len(text)))
                if not more:
                    raise ArtifactMissing(f"artifact {rows_ref} was changed on disk; upload the file again") from error
                text, place = text[place:] + more, 0
                continue
            yield text[place:end].encode()
            place = end + (text[end] == ",")


class StoredRows:
    """The rows of one dataset. Memory: a page of rows, and the columns that were asked for."""

    def __init__(self, artifacts: Artifacts, references: References):
        """Raises ArtifactMissing."""
        self.references, self._artifacts = references, artifacts
        artifacts.file(references.rows)
        try:
            self.columns = Columns(artifacts.file(references.columns))
        except DamagedColumns as error:
            raise ArtifactMissing(f"artifact {references.columns} was changed on disk: {error}") from error

    def __len__(self) -> int:
        return self.columns.rows

    def __iter__(self) -> Iterator[Question]:
        return self.read(range(len(self)))

    def read(self, places: "Places") -> Iterator[Question]:
        """The rows at these places, in their order; neighbours are read together. Raises ArtifactMissing."""
        offsets, checksums = self.columns["offset"], self.columns["crc"]
        with self._artifacts.file(self.references.rows).open("rb") as file:
            for first, last in _runs(places, offsets):
                start = int(offsets[first])
                file.seek(start)
                block = file.read(int(offsets[last + 1]) - start)
                for place in range(first, last + 1):
                    raw = block[int(offsets[place]) - start : int(offsets[place + 1]) - start - 1]
                    if zlib.crc32(raw) != checksums[place]:
                        raise ArtifactMissing(
                            f"artifact {self.references.rows} was changed on disk; upload the file again"
                        )
                    yield Question.model_validate_json(raw)

    def find(self, row_id: str) -> int | None:
        """The place of the row with this id."""
        import numpy as np

        ids, wanted = self.columns["id"], np.uint64(hashed(row_id))
        start = int(np.searchsorted(ids, wanted))
        while start < len(ids) and ids[start] == wanted:
            place = int(self.columns["place"][start])
            if next(self.read([place])).id == row_id:
                return place
            start += 1
        return None


def _runs(places: "Places", offsets: "np.ndarray") -> Iterator[tuple[int, int]]:
    """Neighbouring places as (first, last), of about AT_ONCE bytes at most."""
    first = last = None
    for place in places:
        place = int(place)
        if first is not None and last is not None and place == last + 1 and offsets[place] - offsets[first] < AT_ONCE:
            last = place
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = place
    if first is not None and last is not None:
        yield first, last


class Items(Enum):
    """What becomes of the rows' further fields in a job. LEFT_OUT: its graders read none, so that they are part of no step. REFERENCES: of a row
    without a reference they take its place: its graders read them, and nothing else reads references."""

    LEFT_OUT = "left_out"
    KEPT = "kept"
    REFERENCES = "references"


class JobRows:
    """The rows of a job, in the order of its files, with the splits that they have there. A validation file replaces the dev split;
    the training file's dev rows then belong to train."""

    def __init__(
        self,
        training: StoredRows,
        validation: StoredRows | None = None,
        files: Sequence[UsedFile] = (),
        items: Items = Items.LEFT_OUT,
    ):
        """files: what a report tells of them. items: what becomes of the rows' further fields."""
        self.training, self.validation, self.files, self.items = training, validation, files, items

    def __len__(self) -> int:
        return len(self.training) + (len(self.validation) if self.validation else 0)

    def column(self, name: str) -> "np.ndarray":
        """One of `shared.datasets.columns`, without its `offset`, `id` and `place`."""
        import numpy as np

        if self.validation is None:
            return self.training.columns[name]
        return np.concatenate([self.training.columns[name], self.validation.columns[name]])

    @property
    def lengths(self) -> Lengths:
        return Lengths.of(self.column("question_bytes"), self.column("reference_bytes"))

    @cached_property
    def splits(self) -> "np.ndarray":
        """The number of each row's split (shared.datasets.splits.SPLITS)."""
        import numpy as np

        own = self.training.columns["split"]
        if self.validation is None:
            return own
        train = np.where(own == CODES[Split.DEV], CODES[Split.TRAIN], own).astype(np.uint8)
        return np.concatenate([train, np.full(len(self.validation), CODES[Split.DEV], dtype=np.uint8)])

    @property
    def counts(self) -> dict[Split, int]:
        import numpy as np

        return dict(zip(SPLITS, np.bincount(self.splits, minlength=len(SPLITS)).tolist(), strict=True))

    @property
    def conversations(self) -> bool:
        """Whether a row is a conversation, not a question alone."""
        return bool(self.has(HAS_MESSAGES).any())

    @property
    def judge_must_decide(self) -> bool:
        """Whether dev or test holds too few references to measure by. Then the judge compares answers on all questions."""
        references = self.splits[self.has(HAS_REFERENCE)]
        return min(int((references == CODES[split]).sum()) for split in (Split.DEV, Split.TEST)) < REFERENCES_LEAST

    def in_both(self) -> list[str]:
        """Ids that the validation file gives its rows whose question or group is in the training file too."""
        import numpy as np

        if self.validation is None:
            return []
        first, second = self.training.columns, self.validation.columns
        twice = np.isin(second["group"], first["group"]) | np.isin(second["question"], first["question"])
        return [row.id for row in self.validation.read(np.flatnonzero(twice).tolist())]

    def has(self, flag: int) -> "np.ndarray":
        """Whether each row has a reference, a rejected answer, messages, or further fields (HAS_*)."""
        if flag == HAS_REFERENCE and self.items is Items.REFERENCES:
            flag |= HAS_ITEM
        return self.column("flags") & flag != 0

    def places(self, split: Split | None = None) -> "np.ndarray":
        import numpy as np

        return np.arange(len(self)) if split is None else np.flatnonzero(self.splits == CODES[split])

    def read(self, places: "Places") -> Iterator[Question]:
        """The rows at these places, in their order. Raises ArtifactMissing."""
        return (self._with_item(row) for row in self._read(places))

    def _with_item(self, row: Question) -> Question:
        if row.item is None or self.items is Items.KEPT:
            return row
        if self.items is Items.LEFT_OUT:
            return row.model_copy(update={"item": None})
        shown = json.dumps(row.item, ensure_ascii=False, sort_keys=True)
        return row if row.reference else row.model_copy(update={"reference": shown})

    def _read(self, places: "Places") -> Iterator[Question]:
        if self.validation is None:
            yield from self.training.read(places)
            return
        of_training, start = len(self.training), 0
        while start < len(places):
            inside, end = places[start] < of_training, start
            while end < len(places) and (places[end] < of_training) == inside:
                end += 1
            if inside:
                yield from map(_without_dev, self.training.read(places[start:end]))
            else:
                names = self._names
                for place, row in zip(
                    places[start:end],
                    self.validation.read([int(p) - of_training for p in places[start:end]]),
                    strict=True,
                ):
                    yield row.model_copy(update={"id": names[int(place) - of_training], "split": Split.DEV})
            start = end

    def __iter__(self) -> Iterator[Question]:
        return self.read(range(len(self)))

    def find(self, row_id: str) -> int | None:
        """The place of the row with this id."""
        place = self.training.find(row_id)
        if place is None and self.validation is not None and row_id in self._names:
            return len(self.training) + self._names.index(row_id)
        return place

    @cached_property
    def _names(self) -> list[str]:
        """The ids of the validation rows in the job. Two files may have given the same ones, and ids tell rows of a job apart."""
        assert self.validation is not None
        names: dict[str, None] = {}
        for row in self.validation:
            name = row.id
            while (name := f"{VALIDATION}{name}"[:MAX_ID]) in names or self.training.find(name) is not None:
                name = hashlib.sha256(name.encode()).hexdigest()
            names[name] = None
        return list(names)


def _without_dev(row: Question) -> Question:
    return row.model_copy(update={"split": Split.TRAIN}) if row.split is Split.DEV else row
