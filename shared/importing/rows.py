"""Rows of a source as lines of a dataset, checked by the rules of an upload."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from shared.contracts.data import LineError, Reading, as_upload, parse_row
from shared.contracts.errors import UserError
from shared.contracts.json_types import Json
from shared.contracts.row_shapes import by_mapping

Row = Json
Progress = Callable[[int, int], None]  # (done, total) in the source's unit; an exception from it stops the import
LOOK_EVERY = 500  # lines or rows between progress reports


def unwatched(_done: int, _total: int) -> None:
    """Ignores progress."""


def checked_rows(
    values: Iterable[Json], left_out: Counter[str], columns: Mapping[str, str] | None = None
) -> Iterator[Row]:
    """The valid rows without empty fields; the others are counted in left_out by their error.

    columns: our field -> the values'; without any, fields are recognised by their names.
    """
    ids: set[str] = set()
    reading = Reading(shape=by_mapping(columns) if columns else None)
    for number, value in enumerate(values, start=1):
        given = {name: part for name, part in value.items() if part is not None}
        item = parse_row(number, given, reading)
        if isinstance(item, LineError):
            left_out[f"{item.param or 'row'}: {item.code}"] += 1
        elif item.id in ids:
            left_out["id: duplicate_id"] += 1
        else:
            row = as_upload(item)
            if item.id == f"row-{number}":
                del row["id"]  # the upload assigns line numbers
            else:
                ids.add(item.id)
            yield row


def write_rows(rows: Iterable[Row], path: Path) -> tuple[int, int]:
    """One JSON object per line; returns how many, and how many have a reference. Raises UserError if there is none."""
    count = references = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
            references += bool(row.get("reference"))
    if not count:
        raise UserError("the source contains no valid row", code="nothing_to_import")
    return count, references
