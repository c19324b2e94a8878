"""The records of a data file, one after the other, in constant memory (a spreadsheet is read as a whole)."""

import csv
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson

from shared.contracts.data import MAX_LINE_BYTES, LineError, bounded_lines, json_line
from shared.contracts.json_types import Json
from shared.importing import json_stream
from shared.importing import layout as layouts
from shared.importing.archive import opened_zip, unpacked
from shared.importing.layout import Layout, NotReadable, dialect, text
from shared.importing.packed import seekable

Numbered = tuple[int, Json | LineError]
READ_ROWS = 1000
SHEET_BYTES = 500 * 2**20  # of a spreadsheet's XML
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
            return _sheet(path, layout)
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
    with text(path, layout) as file:
        try:
            for value in json_stream.values(file, layout.rows_at):
                number += 1
                yield number, value if isinstance(value, dict) else _not_an_object(number)
        except (ijson.JSONError, UnicodeDecodeError, RecursionError) as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            yield (
                number + 1,
                LineError(line=number + 1, code="invalid_json", message=f"not JSON after {number} rows: {why}"),
            )


def _not_an_object(number: int) -> LineError:
    return LineError(line=number, code="invalid_json", message="an object is expected for each row")


def _csv(path: Path, layout: Layout) -> Iterator[Numbered]:
    with text(path, layout) as file:
        lines = (line.decode("utf-8", "surrogateescape") + "\n" for line in _bounded(file))
        rows = csv.reader(lines, **dialect(layout.delimiter, layout.escaped))
        try:
            first = next(rows, [])
            if first[:1] == ["sep="]:
                first = next(rows, [])
            columns = named_columns([cell.lstrip("\ufeff") for cell in first])
            for row in rows:
                if any(cell.strip() for cell in row):
                    yield rows.line_num, _table_row(rows.line_num, columns, row)
        except csv.Error as error:
            why = "a quote is opened and never closed" if "field larger" in str(error) else str(error)
            message = f"the table cannot be read: {why}"
            yield rows.line_num, LineError(line=rows.line_num, code="invalid_csv", message=message)


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


def named_columns(cells: list[Any]) -> list[str]:
    """The header's names: column_N for an empty one, name_2 for one that stands there twice."""
    names: list[str] = []
    for number, cell in enumerate(cells, start=1):
        name = str(cell).strip() if cell not in (None, "") else ""
        name = given = name or f"column_{number}"
        again = 2
        while name in names:
            name, again = f"{given}_{again}", again + 1
        names.append(name)
    return names


def _sheet(path: Path, layout: Layout) -> Iterator[Numbered]:
    """The first sheet that has rows."""
    from python_calamine import CalamineError, CalamineWorkbook

    with seekable(path, layout.packed) as file:
        _check_size(file)
        try:
            with CalamineWorkbook.from_path(str(file)) as book:
                sheets = (book.get_sheet_by_name(name) for name in book.sheet_names)
                sheet = next((sheet for sheet in sheets if sheet.total_height > 1), None)
                if sheet is None:
                    return
                start = (sheet.start or (0, 0))[0] + 1
                rows = enumerate(sheet.to_python(), start=start)
                columns = named_columns(next(rows, (0, []))[1])
                for number, row in rows:
                    if any(cell != "" for cell in row):
                        yield number, {name: _cell(cell) for name, cell in zip(columns, row, strict=False)}
        except CalamineError as error:
            raise NotReadable(f"the spreadsheet cannot be read: {error}", param="file") from error


def _check_size(path: Path) -> None:
    """A spreadsheet is a zip that is unpacked in memory. Raises BadArchive for one that is too large or a bomb."""
    with opened_zip(path) as archive:
        left = SHEET_BYTES
        for member in archive.infolist():
            with unpacked(archive, member, left) as file:
                while chunk := file.read(1 << 20):
                    left -= len(chunk)


def _cell(cell: Any) -> Any:
    if cell == "":
        return None
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return cell.isoformat() if isinstance(cell, datetime.date | datetime.time) else cell


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
