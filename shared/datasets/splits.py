"""Which rows a job learns from, decides by and reports on: the split of a file."""

import hashlib
import re
import unicodedata
from array import array
from collections import Counter
from typing import TYPE_CHECKING, Literal, NamedTuple

from shared.contracts.data import LEAST_ROWS, Question, Split, group_key

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np

WHOLE = 2.0**64
SMALL = 200  # rows below which a split that chance made too small is balanced
CODES = {split: number for number, split in enumerate(Split)}
SPLIT_BY = Literal["file", "question", "size"]


class Assigned(NamedTuple):
    """by: `file`, `question` or `size`. twins: rows that stand with another row because their questions differ in case,
    width, accents' spelling or punctuation only."""

    splits: list[Split]
    by: SPLIT_BY
    twins: int

    @property
    def counts(self) -> dict[str, int]:
        count = Counter(self.splits)
        return {split.value: count[split] for split in Split}


class Splitter:
    """Collects the rows of a file, then gives each its split. It keeps 17 bytes of a row.

    A file's own split is used when every row names one. Otherwise the split follows from the hash of a row's group, so that a
    question keeps its side in every later file; twins of a question stand on its side.
    dev, test: shares in [0, 1]; the rest is train.
    """

    def __init__(self, dev: float, test: float):
        self.dev, self.test = dev, test
        self._groups = array("Q")
        self._twins = array("Q")
        self._named = array("b")

    def add(self, row: Question) -> None:
        self._groups.append(_hash(group_key(row)))
        self._twins.append(_hash(folded(row)))
        self._named.append(-1 if row.split is None else CODES[row.split])

    def assign(self) -> Assigned:
        if not self._groups:
            return Assigned([], "question", 0)
        import numpy as np

        positions, twins = self._positions()
        named = np.frombuffer(self._named, dtype=np.int8)
        if (named >= 0).all():
            return Assigned(_named(named, positions, self.dev, self.test), "file", 0)
        splits = np.where(positions < self.test, CODES[Split.TEST], CODES[Split.TRAIN])
        splits[(positions >= self.test) & (positions < self.test + self.dev)] = CODES[Split.DEV]
        by: SPLIT_BY = "question"
        if len(splits) < SMALL and self._is_too_small(splits):
            splits, by = _balanced(positions, self.dev, self.test), "size"
        return Assigned([SPLITS[code] for code in splits], by, twins)

    def _positions(self) -> tuple["np.ndarray", int]:
        """The position of each row's component in [0, 1), and how many rows a twin links to another group."""
        import numpy as np

        given = np.frombuffer(self._groups, dtype=np.uint64)
        lowest = given.copy()
        links = [
            np.unique(np.frombuffer(keys, dtype=np.uint64), return_inverse=True)[1] for keys in (self._twins, given)
        ]
        while True:
            before = lowest
            for link in links:
                lowest = _least(lowest, link)
            if (lowest == before).all():
                return lowest / WHOLE, int((lowest != given).sum())

    def _is_too_small(self, splits: "np.ndarray") -> bool:
        shares = {Split.DEV: self.dev, Split.TEST: self.test, Split.TRAIN: 1 - self.dev - self.test}
        counts = {split: int((splits == CODES[split]).sum()) for split in Split}
        return any(counts[split] < max(LEAST_ROWS[split], shares[split] * len(splits) / 2) for split in Split)


SPLITS = list(Split)


def _least(values: "np.ndarray", groups: "np.ndarray") -> "np.ndarray":
    """For each row the smallest value in its group."""
    import numpy as np

    least = np.full(int(groups.max()) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(least, groups, values)
    return least[groups]


def _named(named: "np.ndarray", positions: "np.ndarray", dev: float, test: float) -> list[Split]:
    """The file's own; a split that it has no row of is taken from train by hash."""
    splits = named.copy()
    train = splits == CODES[Split.TRAIN]
    if not (splits == CODES[Split.TEST]).any():
        splits[train & (positions < test)] = CODES[Split.TEST]
    if not (splits == CODES[Split.DEV]).any():
        splits[train & (positions >= test) & (positions < test + dev)] = CODES[Split.DEV]
    return [SPLITS[code] for code in splits]


def _balanced(positions: "np.ndarray", dev: float, test: float) -> "np.ndarray":
    """Test and dev filled to their shares by whole groups, in the order of positions."""
    import numpy as np

    wanted = {
        Split.TEST: max(LEAST_ROWS[Split.TEST], round(test * len(positions))),
        Split.DEV: max(LEAST_ROWS[Split.DEV], round(dev * len(positions))),
    }
    splits = np.full(len(positions), CODES[Split.TRAIN], dtype=np.int64)
    for position in np.unique(positions):
        members = positions == position
        for split, want in wanted.items():
            if (splits == CODES[split]).sum() + members.sum() <= want:
                splits[members] = CODES[split]
                break
    return splits


def folded(row: Question) -> str:
    """The question's words alone: NFKC, without case, punctuation and symbols. Of a text without words, the text."""
    words = re.sub(r"[^\w]+|_", " ", unicodedata.normalize("NFKC", row.text).casefold()).strip()
    return " ".join(words.split()) or group_key(row)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
