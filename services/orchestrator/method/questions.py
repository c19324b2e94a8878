"""The questions of a job where they lie: in order and counted without being held in memory."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np

from services.orchestrator.method.selection import scripts
from shared.contracts.data import Question, Split
from shared.datasets.columns import HAS_REFERENCE
from shared.datasets.grouping import Grouping
from shared.datasets.rows import JobRows
from shared.datasets.splits import CODES


class Questions(Sequence[Question]):
    """Questions of a job in some order. Each pass over them reads the rows again; a slice is as lazy as the whole."""

    def __init__(self, rows: JobRows, places: np.ndarray):
        self._rows, self._places = rows, places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Question]:
        return self._rows.read(self._places)

    @overload
    def __getitem__(self, index: int) -> Question: ...
    @overload
    def __getitem__(self, index: slice) -> "Questions": ...
    def __getitem__(self, index: int | slice) -> "Question | Questions":
        if isinstance(index, slice):
            return Questions(self._rows, self._places[index])
        return next(self._rows.read([int(self._places[index])]))

    @property
    def without_reference(self) -> int:
        return int((~self._rows.has(HAS_REFERENCE)[self._places]).sum())

    def referenced_first(self) -> "Questions":
        """Those with a reference before those without one, each in their order."""
        bare = ~self._rows.has(HAS_REFERENCE)[self._places]
        return Questions(self._rows, self._places[np.argsort(bare, kind="stable")])

    def capped(self, most: int | None) -> "Questions":
        """At most so many; those without a reference are left out first."""
        return self if most is None else self.referenced_first()[:most]


class Survey(NamedTuple):
    """splits: the questions of each in seeded order. scripts: that the references outside test are written in. crossing: rows of a
    validation file that have something in common with a row of the training file, by what, near twins included."""

    splits: dict[Split, Questions]
    scripts: frozenset[str]
    crossing: dict[str, int]


def survey(rows: JobRows, seed: int) -> Survey:
    """One pass over all rows. The order is that of `selection.seeded_order`: it depends on the ids and the seed alone."""
    order, letters = np.empty((len(rows), 2), dtype=np.uint64), set[str]()
    grouping = Grouping() if rows.validation is not None else None  # within one file the upload has found them
    for place, row in enumerate(rows):
        digest = hashlib.sha256(f"{seed}::{row.id}".encode()).digest()
        order[place] = int.from_bytes(digest[:8]), int.from_bytes(digest[8:16])
        if row.split is not Split.TEST:
            letters.update(row.reference or "")
        if grouping is not None:
            grouping.add(row)
    dev = CODES[Split.DEV]
    crossing = grouping.left(np.where(rows.splits == dev, dev, dev + 1), dev + 1) if grouping is not None else {}
    splits = {}
    for split in Split:
        places = rows.places(split)
        splits[split] = Questions(rows, places[np.lexsort((order[places, 1], order[places, 0]))])
    return Survey(splits, scripts(letters), crossing)
