"""Which rows a job learns from, decides by and reports on: the split of a file."""

from array import array
from typing import TYPE_CHECKING, Literal, NamedTuple

from shared.contracts.data import LEAST_ROWS, Question, Split
from shared.datasets.grouping import Grouping
from shared.datasets.likeness import Likeness, mix

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np

WHOLE = 2.0**64
SPLITS = list(Split)
CODES = {split: number for number, split in enumerate(SPLITS)}
TRAIN, DEV, TEST = CODES[Split.TRAIN], CODES[Split.DEV], CODES[Split.TEST]
PREFERRED = (TEST, DEV, TRAIN)  # the side of a new row whose group has rows on several
SPLIT_BY = Literal["file", "question", "size"]


class Assigned(NamedTuple):
    """codes: a byte for each row, its place in SPLITS. groups: a number for each row, the same for those that belong together though
    their own groups differ; 0: the row's own group says it all. linked: rows that stand with others, by what they have in common (Likeness).
    left: rows of dev and test that still have something in common with a row on another side, by the same names."""

    codes: bytes
    by: SPLIT_BY
    linked: dict[str, int]
    left: dict[str, int]
    groups: bytes = b""

    @classmethod
    def nothing(cls, named: bool = False) -> "Assigned":
        """Of rows that were not split. named: every one of them names its split."""
        return cls(b"", "file" if named else "question", {}, {})

    @property
    def splits(self) -> list[Split]:
        return [SPLITS[code] for code in self.codes]

    @property
    def counts(self) -> dict[str, int]:
        return {split.value: self.codes.count(code) for split, code in CODES.items()}


class Splitter:
    """Collects the rows of a file, then gives each its split. What it keeps of a row goes to the disk; in memory are a few
    numbers of a row at a time.

    A file's own split is used when every row names one. Otherwise rows that belong together (`Grouping`) share a side, and the
    side follows from the hash of one of them, so that a question keeps its side in every later file.
    dev, test: shares in [0, 1]; the rest is train.
    """

    def __init__(self, dev: float, test: float):
        self.dev, self.test = dev, test
        self._grouping = Grouping()
        self._named = array("b")
        self._kept = array("b")

    def add(self, row: Question, keeps: bool = False) -> None:
        """keeps: it stays in the split that it names, whatever the others do: a row of an earlier version of the file."""
        self._grouping.add(row)
        code = -1 if row.split is None else CODES[row.split]
        self._named.append(-1 if keeps else code)
        self._kept.append(code if keeps else -1)

    def keys(self, kind: Likeness) -> "np.ndarray":
        """By row, what it may have in common with others."""
        return self._grouping.keys(kind)

    def assign(self) -> Assigned:
        if not self._named:
            return Assigned.nothing()
        import numpy as np

        named, kept = np.array(self._named, dtype=np.int8), np.array(self._kept, dtype=np.int8)
        labels, linked = self._grouping.labels()
        own = self._grouping.keys(Likeness.GROUP)
        chosen = _chosen(labels, own)
        positions = chosen / WHOLE
        by: SPLIT_BY = "question"
        if (named >= 0).all():
            splits, by, linked = _named(named, positions, self.dev, self.test), "file", {}
        elif (kept >= 0).any():
            splits = _with_kept(kept, labels, self._by_position(positions))
        else:
            splits = self._by_position(positions)
            if self._is_too_small(splits):
                splits, by = _balanced(positions, self.dev, self.test), "size"
        splits = splits.astype(np.int8)
        joined = np.zeros_like(chosen) if (kept >= 0).any() else np.where(_several(labels, own), chosen, np.uint64(0))
        return Assigned(splits.tobytes(), by, linked, self._grouping.left(splits, TRAIN), joined.tobytes())

    def _by_position(self, positions: "np.ndarray") -> "np.ndarray":
        import numpy as np

        splits = np.full(len(positions), TRAIN, dtype=np.int8)
        splits[positions < self.test + self.dev] = DEV
        splits[positions < self.test] = TEST
        return splits

    def _is_too_small(self, splits: "np.ndarray") -> bool:
        shares = {Split.DEV: self.dev, Split.TEST: self.test, Split.TRAIN: 1 - self.dev - self.test}
        counts = {split: int((splits == CODES[split]).sum()) for split in Split}
        return any(counts[split] < max(LEAST_ROWS[split], shares[split] * len(splits) / 2) for split in Split)


def _chosen(labels: "np.ndarray", groups: "np.ndarray") -> "np.ndarray":
    """For each row the hash of one member of its group, whose place in [0, 2^64) is the group's. It is chosen by another hash, so that
    large groups are as likely on one side as small ones are."""
    import numpy as np

    order = np.lexsort((mix(groups), labels))
    first = np.concatenate([[True], labels[order][1:] != labels[order][:-1]])
    chosen = np.empty(int(labels.max()) + 1, dtype=np.uint64)
    chosen[labels[order][first]] = groups[order][first]
    return chosen[labels]


def _several(labels: "np.ndarray", groups: "np.ndarray") -> "np.ndarray":
    """Whether a row belongs together with one of another given group."""
    import numpy as np

    several = np.zeros(int(labels.max()) + 1, dtype=bool)
    order = np.argsort(labels, kind="stable")
    one, other = order[1:], order[:-1]
    several[labels[one[(labels[one] == labels[other]) & (groups[one] != groups[other])]]] = True
    return several[labels]


def _named(named: "np.ndarray", positions: "np.ndarray", dev: float, test: float) -> "np.ndarray":
    """The file's own; a split that it has no row of is taken from train by hash, and by size where chance gives too little."""
    splits = named.copy()
    for code, split, low, share in ((TEST, Split.TEST, 0.0, test), (DEV, Split.DEV, test, dev)):
        if (splits == code).any():
            continue
        train = splits == TRAIN
        taken = train & (positions >= low) & (positions < low + share)
        if taken.sum() < max(LEAST_ROWS[split], share * train.sum() / 2):
            taken[train] = _filled(positions[train], {code: _wanted(split, share, int(train.sum()))}) == code
        splits[taken] = code
    return splits


def _with_kept(kept: "np.ndarray", labels: "np.ndarray", by_position: "np.ndarray") -> "np.ndarray":
    """Rows that keep theirs; a new row stands with those of its group, on the test side where they are on several."""
    import numpy as np

    splits = by_position.copy()
    for code in reversed(PREFERRED):
        here = np.zeros(int(labels.max()) + 1, dtype=bool)
        here[labels[kept == code]] = True
        splits[here[labels]] = code
    return np.where(kept >= 0, kept, splits)


def _balanced(positions: "np.ndarray", dev: float, test: float) -> "np.ndarray":
    count = len(positions)
    return _filled(positions, {TEST: _wanted(Split.TEST, test, count), DEV: _wanted(Split.DEV, dev, count)})


def _wanted(split: Split, share: float, count: int) -> int:
    return max(LEAST_ROWS[split], round(share * count))


def _filled(positions: "np.ndarray", wanted: dict[int, int]) -> "np.ndarray":
    """Splits filled to the wanted rows by whole groups, in the order of positions; the rest is train. One that no group fits into
    gets the smallest groups that there are, as long as train keeps enough."""
    import numpy as np

    _, group, sizes = np.unique(positions, return_inverse=True, return_counts=True)
    sides, filled = np.full(len(sizes), TRAIN, dtype=np.int8), dict.fromkeys(wanted, 0)
    for number, size in enumerate(sizes.tolist()):
        for code, want in wanted.items():
            if filled[code] + size <= want:
                sides[number] = code
                filled[code] += size
                break
    for code in wanted:
        for number in np.argsort(sizes, kind="stable").tolist():
            left = int(sizes[sides == TRAIN].sum()) - int(sizes[number])
            if filled[code] >= LEAST_ROWS[SPLITS[code]] or left < LEAST_ROWS[Split.TRAIN]:
                break
            if sides[number] == TRAIN:
                sides[number] = code
                filled[code] += int(sizes[number])
    return sides[group]
