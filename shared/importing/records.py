"""The records of a data file, one after the other, in constant memory (a spreadsheet is read as a whole)."""

import csv
import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import ijson

from shared.contracts.data import MAX_LINE_BYTES, SPLITS, LineError, bounded_lines, json_line
from shared.contracts.field_names import is_question
from shared.contracts.json_types import Json
from shared.importing import json_stream
from shared.importing import layout as layouts
from shared.importing.json_stream import Marked, has_half, members
from shared.importing.layout import Layout, NotReadable, dialect, named_columns, text
from shared.importing.packed import seekable
from shared.importing.sheets import sheet_rows, unread_of_sheets

Numbered = tuple[int, Json | LineError]
READ_ROWS = 1000
LOOKED_AT = 50  # members of a JSON list
COLUMN_BYTES = 300 * 2**20  # of a JSON file that holds columns
PLAIN_LISTS = {
    "data",
    "rows",
    "items",
    "examples",
    "results",
    "records",
    "questions",
    "intents",
    "prompts",
    "entries",
    "faq",
    "faqs",
    "dataset",
    "list",
    "documents",
    "tests",
    "qa",
}
LONE_SURROGATE = "half of a surrogate pair (\\ud800 to \\udfff) stands alone"
FOOTER_BYTES, FOOTER_ITEMS = 100 * 2**20, 10**6  # the most that a Parquet file's metadata may ask for
BROKEN_CELL = "the row has bytes that are not UTF-8, while other rows are; save the file in one encoding"


def records(path: Path, layout: Layout) -> Iterator[Numbered]:
    """(number, object or error). number: the line of a JSONL file, the row of a table (the header is row 1), the element of
    a JSON list. Raises NotReadable, BadArchive."""
    match layout.format:
        case layouts.JSONL:
            return _json_lines(path, layout)
        case layouts.JSON:
            return _json(path, layout)
        case layouts.CSV:
            return _csv(path, layout)
        case layouts.XLSX:
            return sheet_rows(path, layout)
        case layouts.YAML:
            return _yaml(path, layout)
        case _:
            return _arrow(path, layout)


def _json_lines(path: Path, layout: Layout) -> Iterator[Numbered]:
    with text(path, layout) as file:
        for number, raw in enumerate(bounded_lines(file), start=1):
            value = json_line(number, raw)
            if value is not None:
                yield number, value


def _json(path: Path, layout: Layout) -> Iterator[Numbered]:
    number = 0
    with text(path, layout) as plain:
        file = Marked(plain)
        try:
            for value in _json_values(file, layout):
                number += 1
                if not isinstance(value, dict):
                    yield number, _not_an_object(number)
                elif file.marked and has_half(value):
                    yield number, LineError(line=number, code="invalid_unicode", message=LONE_SURROGATE)
                else:
                    yield number, value
        except (ijson.JSONError, UnicodeDecodeError, RecursionError) as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            yield (
                number + 1,
                LineError(line=number + 1, code="invalid_json", message=f"not JSON after {number} rows: {why}"),
            )


def _json_values(file: Marked, layout: Layout) -> Iterator[Any]:
    """Objects, and what should be one and is not."""
    rows = layout.rows
    match rows.kind:
        case "values":
            yield from json_stream.values(file)
        case "pairs":
            yield from ({"question": key, "answer": value} for _, key, value in members(file, rows.at))
        case "columns":
            yield from _columns(file, layout)
        case _:
            yield from _members(file, layout)


def _members(file: Marked, layout: Layout) -> Iterator[Any]:
    stream = members(file, layout.rows.at)
    first, stream = _looked_at(stream)
    lists = [value for _, _, value in first if isinstance(value, list)]
    texts = all(isinstance(cell, str) for value in lists for cell in value)
    widths = {len(value) for value in lists}
    spoken = not layout.rows.header and texts and len(widths) > 1  # conversations differ in length
    headers: dict[json_stream.Path, list[str]] = {}
    for place, key, value in chain(first, stream):
        if isinstance(value, list) and spoken:
            value = {"conversation": value}
        elif isinstance(value, list):
            if place not in headers:
                headers[place], is_header = table_header(value, list(layout.rows.header))
                if is_header:
                    continue
            value = _list_row(headers[place], value)
        elif isinstance(value, str) and not layout.rows.header:
            value = {"question": value}
        yield _placed(value, place, key) if isinstance(value, dict) else value


Member = tuple[json_stream.Path, str, Any]


def _looked_at(stream: Iterator[Member]) -> tuple[list[Member], Iterator[Member]]:
    """The first members and the others; an error among the first is raised in its place."""
    first: list[Member] = []
    try:
        for member in islice(stream, LOOKED_AT):
            first.append(member)
    except ijson.JSONError as error:
        return first, _raised(error)
    return first, stream


def _raised(error: Exception) -> Iterator[Member]:
    raise error
    yield


def _placed(value: Json, place: json_stream.Path, key: str) -> Json:
    """A row with what its place tells: the split or the category that the list is named by, or the row's id."""
    if key:
        return value if "id" in value else {"id": key} | value
    if not place:
        return value
    name = place[-1]
    split = next((part for part in re.split(r"[_\W]+", name.casefold()) if part in SPLITS), None)
    if split is not None:
        return value if "split" in value else value | {"split": split}
    return value if (len(place) == 1 and name in PLAIN_LISTS) or "category" in value else value | {"category": name}


def table_header(first: list[Any], given: list[str]) -> tuple[list[str], bool]:
    """(names, whether the first row is the header) of rows that are lists."""
    if given:
        return named_columns(given), False
    cells = [cell if isinstance(cell, str) else "" for cell in first]
    if any(is_question(cell) for cell in cells):
        return named_columns(cells), True
    return ["question", "answer", *(f"column_{number}" for number in range(3, len(first) + 1))], False


def _list_row(columns: list[str], row: list[Any]) -> Any:
    return row if len(row) > len(columns) else dict(zip(columns, row, strict=False))


def _columns(file: Marked, layout: Layout) -> Iterator[Any]:
    """Columns are read as a whole."""
    columns: dict[str, list[Any]] = {}
    left = COLUMN_BYTES
    for _, key, value in members(file, layout.rows.at):
        columns[key] = list(value.values()) if isinstance(value, dict) else value
        left -= sum(len(item) if isinstance(item, str) else 8 for item in columns[key])
        if left < 0:
            raise NotReadable(
                f"columns of more than {COLUMN_BYTES} bytes are not read; save the file as JSONL or CSV", param="file"
            )
    yield from (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def _not_an_object(number: int) -> LineError:
    return LineError(line=number, code="invalid_json", message="an object is expected for each row")


def _csv(path: Path, layout: Layout) -> Iterator[Numbered]:
    with text(path, layout) as file:
        lines = (line.decode("utf-8", "surrogateescape") + "\n" for line in _bounded(file))
        rows = csv.reader(lines, **dialect(layout.delimiter, layout.escaped))
        try:
            first = next((row for row in rows if any(cell.strip() for cell in row) and row[:1] != ["sep="]), [])
            columns, is_header = layouts.header(layout, [_name(cell) for cell in first])
            if first and not is_header:
                yield rows.line_num, _table_row(rows.line_num, columns, first)
            for row in rows:
                if any(cell.strip() for cell in row):
                    yield rows.line_num, _table_row(rows.line_num, columns, row)
        except csv.Error as error:
            why = "a quote is opened and never closed" if "field larger" in str(error) else str(error)
            message = f"the table cannot be read: {why}"
            yield rows.line_num, LineError(line=rows.line_num, code="invalid_csv", message=message)


def _name(cell: str) -> str:
    """A header's cell. One that is not UTF-8, as other lines are, is read as Windows' encoding: it only names a column."""
    raw = cell.encode("utf-8", "surrogateescape")
    try:
        return raw.decode().lstrip("\ufeff")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def _yaml(path: Path, layout: Layout) -> Iterator[Numbered]:
    from shared.importing.yaml_rows import Broken, yaml_rows

    number = 0
    with text(path, layout) as file:
        try:
            for number, value in enumerate(yaml_rows(file), start=1):
                yield number, value
        except Broken as error:
            line = error.line or number + 1
            yield line, LineError(line=line, code="invalid_yaml", message=str(error))


def _bounded(file: Any) -> Iterator[bytes]:
    for raw in bounded_lines(file):
        if len(raw) > MAX_LINE_BYTES:
            raise NotReadable(f"a line of the file is longer than {MAX_LINE_BYTES} bytes", param="file")
        yield raw


def _table_row(number: int, columns: list[str], row: list[str]) -> Json | LineError:
    if len(row) > len(columns):
        return LineError(
            line=number,
            code="invalid_csv",
            message=f"{len(row)} cells, and the header has {len(columns)}; is a cell with the delimiter in it not quoted?",
        )
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return LineError(line=number, code="invalid_utf8", message=BROKEN_CELL)
    return {name: cell if cell.strip() else None for name, cell in zip(columns, row, strict=False)}


def unread_parts(path: Path, layout: Layout) -> list[str]:
    """What of a file is not read, for people: lists beside the rows, sheets with another header, formulas without a value."""
    if layout.format == layouts.XLSX:
        return unread_of_sheets(path, layout)
    return [f"{name!r} stands beside the rows and is not read" for name in layout.rows.unread]


def _arrow(path: Path, layout: Layout) -> Iterator[Numbered]:
    import pyarrow

    number = 0
    with seekable(path, layout.packed) as file:
        try:
            for batch in _parquet(file) if layout.format == layouts.PARQUET else _ipc(file):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise NotReadable(
                f"the {layout.format} file cannot be read: {' '.join(str(error).split())[:300]}", param="file"
            ) from error


def _parquet(path: Path) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(
        path, thrift_string_size_limit=FOOTER_BYTES, thrift_container_size_limit=FOOTER_ITEMS
    ) as file:
        yield from file.iter_batches(READ_ROWS)


def _ipc(path: Path) -> Iterator[Any]:
    from pyarrow import ipc

    with ipc.open_file(str(path)) as file:
        for index in range(file.num_record_batches):
            batch = file.get_batch(index)
            for start in range(0, batch.num_rows, READ_ROWS):
                yield batch.slice(start, READ_ROWS)
