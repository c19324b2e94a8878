"""Rows of a source as lines of a dataset, checked by the rules of an upload."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from shared.contracts.data import LineError, bounded_lines, parse_line
from shared.contracts.errors import UserError
from shared.contracts.json_types import Json

Row = Json
Progress = Callable[[int, int], None]  # (done, total) in the source's unit; an exception from it stops the import
LOOK_EVERY = 500  # lines or rows between progress reports


def unwatched(_done: int, _total: int) -> None:
    """Ignores progress."""


def watched_lines(file: BinaryIO, on_progress: Progress, before: int, total: int) -> Iterator[bytes]:
    """`bounded_lines` of a file, with progress in bytes. before: bytes of earlier passes. total: bytes of all passes."""
    for number, line in enumerate(bounded_lines(file)):
        if number % LOOK_EVERY == 0:
            on_progress(before + file.tell(), total)
        yield line


def checked_rows(rows: Iterable[Row], left_out: Counter[str]) -> Iterator[Row]:
    """The valid rows without empty fields; the others are counted in left_out by their error."""
    ids: set[str] = set()
    for number, row in enumerate(rows, start=1):
        given = {name: value for name, value in row.items() if value is not None}
        item = parse_line(number, json.dumps(given).encode())
        if item is None or isinstance(item, LineError):
            left_out[f"{item.param or 'row'}: {item.code}" if item else "empty"] += 1
        elif item.id in ids:
            left_out["id: duplicate_id"] += 1
        else:
            if "id" in given:
                ids.add(item.id)
            else:
                item.id = ""  # the upload assigns line numbers
            yield {name: value for name, value in item.model_dump(exclude={"split"}).items() if value}


def write_rows(rows: Iterable[Row], path: Path) -> int:
    """One JSON object per line; returns how many. Raises UserError if there is none."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    if not count:
        raise UserError("the source contains no valid row", code="nothing_to_import")
    return count
