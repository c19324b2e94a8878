"""Which rows of a file belong together: connected by what they have in common, within limits. Memory: a few numbers a row."""

from array import array
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, BinaryIO

from shared.contracts.data import Question
from shared.datasets.likeness import BAND, PERMUTATIONS, Keys, Likeness, keys_of, mix, signatures

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np

AT_ONCE = 4096  # rows whose near twins' signatures are made together
IN_MEMORY = 1 << 16  # numbers of a column before it goes to the disk
ALIKE = 0.8  # share of runs of letters that near twins have in common
# Links that must hold come first. Of the others, a key that more rows share is no sign of a twin (a label, a template, a system
# prompt), nor is a link that would make a larger group: the share of a file's rows.
STRONG = (Likeness.GROUP, Likeness.QUESTION)
WEAK = {Likeness.ASKED: 0.05, Likeness.REFERENCE: 0.05, Likeness.PASSAGE: 0.25, Likeness.NEAR: 0.05}
FEW, MANY = 10, 1000  # the limits are never below the one nor, but for passages, above the other
LABELS = 8  # references that repeat as often on average are labels


class Column:
    """Unsigned numbers, a row each, on the disk once they are many. width: numbers of a row. code: of `array`."""

    def __init__(self, code: str = "Q", width: int = 1):
        self._code, self._width, self._new = code, width, array(code)
        self._file: BinaryIO | None = None
        self.add = self._new.append

    def __len__(self) -> int:
        """Of what is in memory."""
        return len(self._new)

    def extend(self, values: bytes) -> None:
        self._new.frombytes(values)
        self.spill()

    def spill(self) -> None:
        """To the disk, if there are many. After `add`, which does not look, by its caller now and then."""
        if len(self._new) >= IN_MEMORY:
            self._file = self._file or TemporaryFile()  # noqa: SIM115  it lives as long as the column
            self._new.tofile(self._file)
            del self._new[:]

    def all(self) -> "np.ndarray":
        """A copy in memory if it is small, else the file seen through the page cache."""
        import numpy as np

        if self._file is None:
            values = np.array(self._new, dtype=np.dtype(self._code))
        else:
            self._new.tofile(self._file)
            del self._new[:]
            self._file.flush()
            values = np.memmap(self._file, dtype=np.dtype(self._code), mode="r")
        return values.reshape(-1, self._width) if self._width > 1 else values


class Grouping:
    """Collects the keys of rows, then tells which belong together."""

    def __init__(self) -> None:
        self._keys = {kind: Column() for kind in Likeness if kind is not Likeness.NEAR}
        self._bands = [Column() for _ in range(PERMUTATIONS // BAND)]
        self._short = Column("B", PERMUTATIONS)
        self._new: list[Keys] = []
        self._near: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.keys(Likeness.GROUP))

    def add(self, row: Question) -> None:
        self._new.append(keys_of(row))
        if len(self._new) >= AT_ONCE:
            self._sign()

    def _sign(self) -> None:
        by_kind = dict(zip(Keys._fields, zip(*self._new, strict=True), strict=True))
        for kind, column in self._keys.items():
            column.extend(array("Q", by_kind[kind.value]).tobytes())
        made = signatures(by_kind["near_text"])
        for column, band in zip(self._bands, made.bands.T, strict=True):
            column.extend(band.tobytes())
        self._short.extend(made.short.tobytes())
        self._new.clear()

    def keys(self, kind: Likeness) -> "np.ndarray":
        if self._new:
            self._sign()
        return self._keys[kind].all()

    def labels(self) -> tuple["np.ndarray", dict[str, int]]:
        """A number for each row, equal for those that belong together; and by kind, how many rows it has linked to others."""
        import numpy as np

        count = len(self)
        labels, linked = np.arange(count, dtype=np.int32), dict[str, int]()
        for kind in STRONG:
            joined = _joined(labels, *_pairs(self.keys(kind)))
            if kind is not Likeness.GROUP:
                linked |= _changed(kind, labels, joined)
            labels = joined
        for kind, share in WEAK.items():
            most = max(FEW, int(share * count))
            most = most if kind is Likeness.PASSAGE else min(most, MANY)
            pairs = self._near_pairs() if kind is Likeness.NEAR else _pairs(self._telling(kind), most)
            joined = _joined(labels, *pairs, most)
            linked |= _changed(kind, labels, joined)
            labels = joined
        return labels, linked

    def _telling(self, kind: Likeness) -> "np.ndarray":
        """The keys; none where references are labels."""
        import numpy as np

        keys = self.keys(kind)
        if kind is Likeness.REFERENCE:
            given = keys[keys != 0]
            if len(given) >= LABELS * len(np.unique(given)):
                return np.zeros_like(keys)
        return keys

    def _near_pairs(self) -> tuple["np.ndarray", "np.ndarray"]:
        """Rows whose signatures are alike; within a band each is compared with the one before it and with the first."""
        import numpy as np

        if self._near is None:
            group, short = mix(self.keys(Likeness.GROUP)), self._short.all()
            pairs: list[tuple[np.ndarray, np.ndarray]] = []
            for column in self._bands:
                first, second = _pairs(column.all(), tie=group)
                pairs.append(_alike(short, first, second))
            self._near = (np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs]))
        return self._near

    def left(self, sides: "np.ndarray", train: int) -> dict[str, int]:
        """Rows outside train (sides: a number for each row) that have something in common with a row on another side: each counted
        once, by the first kind. A shared reference counts unless it is a label."""
        import numpy as np

        counts: dict[str, int] = {}
        seen = sides == train
        for kind in Likeness:
            if kind is Likeness.NEAR:
                first, second = self._near_pairs()
                apart = sides[first] != sides[second]
                rows = np.unique(np.concatenate([first[apart], second[apart]]))
            else:
                rows = _on_two_sides(self._telling(kind), sides)
            rows = rows[~seen[rows]]
            seen[rows] = True
            if len(rows):
                counts[kind.value] = len(rows)
        return counts


def _pairs(
    keys: "np.ndarray", most: int | None = None, tie: "np.ndarray | None" = None
) -> tuple["np.ndarray", "np.ndarray"]:
    """Pairs of rows with the same key, enough to connect all of them. most: a key of more rows connects none. tie: a second key
    that orders rows; pairs of every row with the first are then added to those with the one before."""
    import numpy as np

    rows = _repeated(keys)
    some = keys[rows]
    order = np.argsort(some, kind="stable") if tie is None else np.lexsort((tie[rows], some))
    ordered, order = some[order], rows[order].astype(np.int32)
    same = ordered[1:] == ordered[:-1]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(ordered) else np.empty(0, int)
    if most is not None:
        sizes = np.diff(np.append(starts, len(ordered)))
        same &= np.repeat(sizes <= most, sizes)[1:]
    first, second = order[:-1][same], order[1:][same]
    if tie is not None and len(second):
        begin = np.repeat(order[starts], np.diff(np.append(starts, len(ordered))))[1:][same]
        beyond = begin != first
        first, second = np.concatenate([first, begin[beyond]]), np.concatenate([second, second[beyond]])
    return first, second


def _repeated(keys: "np.ndarray") -> "np.ndarray":
    """Rows whose key another row has too, in their order; 0 is no key. Most keys stand alone, and finding that out takes less than
    bringing the rows into an order."""
    import numpy as np

    ordered = np.sort(keys)
    twice = np.unique(ordered[1:][(ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)])
    if not len(twice):
        return np.empty(0, dtype=np.int64)
    places = np.searchsorted(twice, keys)
    places[places == len(twice)] = 0
    return np.flatnonzero(twice[places] == keys)


def _alike(short: "np.ndarray", first: "np.ndarray", second: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
    import numpy as np

    if not len(first):
        return first, second
    parts = [slice(start, start + IN_MEMORY) for start in range(0, len(first), IN_MEMORY)]
    equal = np.concatenate([(short[first[part]] == short[second[part]]).sum(axis=1) for part in parts])
    kept = equal >= ALIKE * PERMUTATIONS
    return first[kept], second[kept]


def _joined(labels: "np.ndarray", first: "np.ndarray", second: "np.ndarray", most: int | None = None) -> "np.ndarray":
    """The labels with these rows connected. most: rows of a group; links that would make a larger one are not used."""
    import numpy as np

    if not len(first):
        return labels
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = len(labels)
    links = coo_matrix((np.ones(len(first), dtype=np.int8), (labels[first], labels[second])), shape=(count, count))
    joined = connected_components(links, directed=False)[1][labels]
    if most is None:
        return joined
    too_large = np.bincount(joined, minlength=count)[joined] > most
    kept = np.where(too_large, labels.astype(np.int64), joined.astype(np.int64) + count)
    return np.unique(kept, return_inverse=True)[1].astype(np.int32)


def _changed(kind: Likeness, before: "np.ndarray", after: "np.ndarray") -> dict[str, int]:
    """How many rows stand in a group that this kind of link has made of several."""
    import numpy as np

    if before is after:
        return {}
    groups = np.unique(np.stack([after, before]), axis=1)
    several = np.bincount(groups[0]) > 1
    count = int(several[after].sum())
    return {kind.value: count} if count else {}


def _on_two_sides(keys: "np.ndarray", sides: "np.ndarray") -> "np.ndarray":
    """Rows whose key a row on another side has too."""
    import numpy as np

    rows = _repeated(keys)
    if not len(rows):
        return rows
    some = keys[rows]
    order = np.argsort(some, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], some[order][1:] != some[order][:-1]]))
    bits = np.bitwise_or.reduceat((1 << sides[rows][order]).astype(np.uint8), starts)
    several = bits & (bits - 1) != 0
    return rows[order[np.repeat(several, np.diff(np.append(starts, len(rows))))]]
