"""Versions of a dataset: rows appended, edited and removed without moving the others between the splits; and what differs."""

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import TYPE_CHECKING, NamedTuple

from shared.contracts.data import LineError, Question, as_upload, parse_row
from shared.contracts.errors import UserError
from shared.contracts.json_types import Json
from shared.contracts.versions import RowChange
from shared.datasets.rows import StoredRows

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np

NUMBERED = re.compile(r"row-\d+(\.\d+)?")  # an id that the reader gave, not the file
AT_ONCE = 1000  # rows that are compared together


def edits_by_id(edits: Iterable[Json]) -> dict[str, Json]:
    """Raises UserError for one without an id, or with an id that another one has."""
    by_id: dict[str, Json] = {}
    for number, edit in enumerate(edits):
        name = edit.get("id")
        if not isinstance(name, str) or name in by_id or len(edit) < 2:
            raise UserError(
                f"edit.{number}: an object with the id of a row, once each, and at least one field to change is expected",
                param=f"edit.{number}.id",
                code="invalid_value",
            )
        by_id[name] = edit
    return by_id


def changed_rows(
    base: StoredRows, edits: Mapping[str, Json], removed: Set[str], appended: Iterable[Question]
) -> Iterator[tuple[Question, bool]]:
    """The rows of the new version, each with whether it stays in the split that it names. An appended row that names a split gets
    that one. Raises UserError for ids that no row has, for edits that leave no row, and for an appended id that is taken."""
    unknown = [name for name in (*edits, *removed) if base.find(name) is None]
    if unknown:
        param = "edit" if unknown[0] in edits else "remove"
        message = f"no row has the id {unknown[0]!r}" + (f", nor {len(unknown) - 1} others" if unknown[1:] else "")
        raise UserError(message, param=param, code="row_not_found")
    both = removed & edits.keys()
    if both:
        raise UserError(f"row {min(both)!r} is edited and removed", param="edit", code="invalid_value")
    for row in base:
        if row.id not in removed:
            yield (_edited(row, edits[row.id]) if row.id in edits else row), True
    yield from _renamed(base, appended)


def _edited(row: Question, edit: Json) -> Question:
    if "split" in edit:
        message = f"edit of {row.id!r}: a row stays in its split; remove it and append it to move it"
        raise UserError(message, param="edit", code="invalid_value")
    given = as_upload(row) | edit
    made = parse_row(1, {name: part for name, part in given.items() if part is not None})
    if isinstance(made, LineError):
        raise UserError(f"edit of {row.id!r}: {made.message}", param="edit", code=made.code)
    return made.model_copy(update={"split": row.split})


def _renamed(base: StoredRows, appended: Iterable[Question]) -> Iterator[tuple[Question, bool]]:
    """Ids that the reader gave by number become free ones."""
    taken, number = set[str](), len(base)
    for row in appended:
        name = row.id
        if name in taken or base.find(name) is not None:
            if not NUMBERED.fullmatch(name):
                message = f"the dataset has a row with the id {name!r} already; edit it, or give the new row another id"
                raise UserError(message, param="append", code="duplicate_id")
            while name in taken or base.find(name) is not None:
                number += 1
                name = f"row-{number}"
        taken.add(name)
        yield row.model_copy(update={"id": name}), row.split is not None


class Differences(NamedTuple):
    """Places of rows: removed ones in the old dataset, added ones in the new, changed ones in both, in the new one's order."""

    removed: "np.ndarray"
    changed: "np.ndarray"
    added: "np.ndarray"
    unchanged: int

    def page(self, old: StoredRows, new: StoredRows, after: str | None, limit: int) -> tuple[list[RowChange], bool]:
        """Raises UserError for an `after` that is no such row."""
        start = self._behind(old, new, after) if after else 0
        n_removed, n_changed = len(self.removed), len(self.changed)
        stop = start + limit
        removed = self.removed[start:stop]
        changed = self.changed[max(0, start - n_removed) : max(0, stop - n_removed)]
        added = self.added[max(0, start - n_removed - n_changed) : max(0, stop - n_removed - n_changed)]
        rows = [RowChange(id=row.id, change="removed", before=row) for row in old.read(removed)]
        pairs = zip(old.read(changed[:, 0]), new.read(changed[:, 1]), strict=True)
        rows += [RowChange(id=row.id, change="changed", before=before, after=row) for before, row in pairs]
        rows += [RowChange(id=row.id, change="added", after=row) for row in new.read(added)]
        return rows, n_removed + n_changed + len(self.added) > stop

    def _behind(self, old: StoredRows, new: StoredRows, after: str) -> int:
        here, before = new.find(after), old.find(after)
        parts = ((self.removed, before), (self.changed[:, 1], here), (self.added, here))
        start = 0
        for places, wanted in parts:
            matching = [] if wanted is None else (places == wanted).nonzero()[0].tolist()
            if matching:
                return start + matching[0] + 1
            start += len(places)
        raise UserError(f"no row {after[:100]!r} to continue after", param="after", code="unknown_cursor")


def differences(old: StoredRows, new: StoredRows) -> Differences:
    """By the ids of the rows. Memory: a few numbers a row."""
    import numpy as np

    _, first, second = np.intersect1d(old.columns["id"], new.columns["id"], assume_unique=True, return_indices=True)
    before, here = old.columns["place"][first], new.columns["place"][second]
    gone, come = np.ones(len(old), dtype=bool), np.ones(len(new), dtype=bool)
    gone[before] = come[here] = False
    differ = np.flatnonzero(old.columns["crc"][before] != new.columns["crc"][here])
    differ = differ[np.argsort(here[differ], kind="stable")]
    pairs = np.stack([before[differ], here[differ]], axis=1).astype(np.int64)
    kept = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs), AT_ONCE):  # other bytes may say the same
        part = slice(start, start + AT_ONCE)
        rows = zip(old.read(pairs[part, 0]), new.read(pairs[part, 1]), strict=True)
        kept[part] = [one != other for one, other in rows]
    changed = pairs[kept]
    return Differences(np.flatnonzero(gone), changed, np.flatnonzero(come), len(before) - len(changed))
