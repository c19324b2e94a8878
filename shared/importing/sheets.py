"""Rows of a spreadsheet. It is read as a whole, within limits; formulas are never computed, and links never followed."""

import datetime
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.contracts.json_types import Json
from shared.importing.archive import opened_zip, unpacked
from shared.importing.layout import Layout, NotReadable, named_columns
from shared.importing.packed import seekable

SHEET = re.compile(r"xl/worksheets/[^/]+\.xml$")
NO_VALUE = re.compile(rb"(?:</f>|<f[^>]*/>)(?:<v></v>|<v/>)?</c>")
SHEET_BYTES = 500 * 2**20  # of a spreadsheet's XML


def sheet_rows(path: Path, layout: Layout) -> Iterator[tuple[int, Json]]:
    """The rows of all sheets with the header of the first that has rows."""
    from python_calamine import CalamineError, CalamineWorkbook

    with seekable(path, layout.packed) as file:
        _check_size(file)
        try:
            with CalamineWorkbook.from_path(str(file)) as book:
                columns: list[str] = []
                count = 0
                for name in book.sheet_names:
                    sheet = book.get_sheet_by_name(name)
                    if sheet.height < 1 + (not columns):
                        continue
                    start = (sheet.start or (0, 0))[0] + 1
                    rows = iter(sheet.to_python())
                    header = named_columns(next(rows, []))
                    if columns and header != columns:
                        continue
                    start, columns = (start + 1 if not columns else count + 1), header
                    for count, row in enumerate(rows, start=start):
                        if any(cell != "" for cell in row):
                            yield count, {name: _cell(cell) for name, cell in zip(columns, row, strict=False)}
        except CalamineError as error:
            raise NotReadable(f"the spreadsheet cannot be read: {error}", param="file") from error


def unread_of_sheets(path: Path, layout: Layout) -> list[str]:
    """Sheets with another header, links, formulas without a value: for people. Raises BadArchive."""
    from python_calamine import CalamineError, CalamineWorkbook

    unread: list[str] = []
    with seekable(path, layout.packed) as file:
        with opened_zip(file) as archive:
            names = [info.filename for info in archive.infolist()]
            empty = sum(
                _formulas_without_value(archive, info) for info in archive.infolist() if SHEET.search(info.filename)
            )
        try:
            with CalamineWorkbook.from_path(str(file)) as book:
                first: list[str] = []
                for name in book.sheet_names:
                    sheet = book.get_sheet_by_name(name)
                    if sheet.height < 1 + (not first):
                        continue
                    header = named_columns(next(iter(sheet.to_python(nrows=1)), []))
                    first = first or header
                    if header != first:
                        unread.append(f"sheet {name!r} ({sheet.height} rows) has another header and is not read")
        except CalamineError:
            return []  # reading the rows says it
    if any("externalLink" in name for name in names):
        unread.append("links to other workbooks are not followed; their last values are read")
    if empty:
        unread.append(
            f"{empty} cells hold a formula that was never computed, and are read as empty; open and save the file once"
        )
    return unread


def _formulas_without_value(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    count, rest = 0, b""
    with unpacked(archive, member, SHEET_BYTES) as file:
        while chunk := file.read(1 << 20):
            chunk = rest + chunk
            count += len(NO_VALUE.findall(chunk))
            rest = chunk[-20:] if not NO_VALUE.search(chunk[-40:]) else b""
    return count


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
