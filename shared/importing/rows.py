"""From what a source gives to the lines of a dataset: every row is held against the rules of an upload before it is written."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from shared.contracts.data import LineError, bounded_lines, parse_line
from shared.contracts.errors import UserError
from shared.contracts.json_types import Json

Row = Json
Progress = Callable[[int, int], None]  # done, total; in whatever the source counts in. What it raises ends the reading
LOOK_EVERY = 500  # lines or rows


def unwatched(_done: int, _total: int) -> None:
    """For callers that show no progress."""


def watched_lines(file: BinaryIO, on_progress: Progress, before: int, total: int) -> Iterator[bytes]:
    """`bounded_lines` of a file, telling now and then how many bytes are read. before: those of earlier passes; total: of all."""
    for number, line in enumerate(bounded_lines(file)):
        if number % LOOK_EVERY == 0:
            on_progress(before + file.tell(), total)
        yield line


def checked_rows(rows: Iterable[Row], left_out: Counter[str]) -> Iterator[Row]:
    """The rows that an upload would take, without empty fields; the others are counted by what is wrong with them."""
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        given = {name: value for name, value in row.items() if value is not None}
        item = parse_line(number, json.dumps(given).encode())
        if item is None or isinstance(item, LineError):
            left_out[f"{item.param or 'row'}: {item.code}" if item else "empty"] += 1
        elif item.id in seen:
            left_out["id: duplicate_id"] += 1
        else:
            if "id" in given:
                seen.add(item.id)
            else:
                item.id = ""  # numbers of lines are given anew by the upload
            yield {name: value for name, value in item.model_dump(exclude={"split"}).items() if value}


def write_rows(rows: Iterable[Row], path: Path) -> int:
    """One JSON object a line; returns how many. Raises UserError when there is none."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    if not count:
        raise UserError("nothing was found that could become a row", code="nothing_to_import")
    return count
