"""How a data file is laid out: JSON lines, JSON, CSV, XLSX, Parquet or Arrow, found by its bytes and never by its name."""

import csv
import io
import json
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from shared.contracts.data import MAX_LINE_BYTES, bounded_lines
from shared.contracts.errors import UserError
from shared.contracts.field_names import is_question
from shared.importing.encodings import UTF8, encoding_of
from shared.importing.json_layout import JsonRows, json_rows
from shared.importing.json_stream import Marked
from shared.importing.packed import Packed, opened

JSONL, JSON, CSV, XLSX, PARQUET, ARROW, YAML = "JSONL", "JSON", "CSV", "XLSX", "Parquet", "Arrow", "YAML"
BINARY = {b"PAR1": PARQUET, b"ARROW1": ARROW, b"PK\x03\x04": XLSX}
ELSEWHERE = {  # what a file that is no table is, and where it can be used
    b"%PDF": "a PDF; documents are imported: meteor data import documents",
    b"\xd0\xcf\x11\xe0": "an old Office file; save it as XLSX or CSV",
    b"SQLite format 3": "an SQLite database; export the table as CSV",
    b"\x89PNG": "a picture",
    b"<?xml": "XML; a Posts.xml is imported with: meteor data import stackexchange",
    b"<!do": "an HTML page; documents are imported: meteor data import documents",
    b"<html": "an HTML page; documents are imported: meteor data import documents",
}
DELIMITERS = (",", ";", "\t", "|")
SAMPLE = 1 << 16  # bytes by which delimiter and quoting are found
SAMPLE_ROWS = 50
TABLE_SHARE = 0.55  # of the first rows that have as many cells as the header; below it the file is no table
LONGEST_NAME = 500  # letters of a name in the first row of a table
ONE_COLUMN = "\x1f"  # a delimiter that stands in no text
YAML_START = re.compile(rb"(?:\s*#[^\n]*\n|\s*\n|---[^\n]*\n)*(?:- |-\n|[\w.-]{1,50}:(?:\s*\n|\s+[\[{\"'|>&]))")
LOOKED_AT = 20  # lines among which there must be an object, when the first is none

csv.field_size_limit(MAX_LINE_BYTES)


class NotReadable(UserError):
    code = "invalid_file_format"


class Layout(NamedTuple):
    """encoding: of text formats. delimiter, escaped: of CSV; escaped: quotes inside a cell are written \\" and not "".

    rows: of JSON, where they are. header: names of a table's columns that has none.
    """

    format: str
    packed: Packed = Packed()
    encoding: str = ""
    mixed: bool = False
    delimiter: str = ""
    escaped: bool = False
    rows: JsonRows = JsonRows()
    header: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """For people: `CSV, separated by ";", cp1252, gzip`."""
        parts = [self.format]
        if self.delimiter:
            parts.append("separated by " + ("tabs" if self.delimiter == "\t" else f'"{self.delimiter}"'))
        if self.rows.words:
            parts.append(self.rows.words)
        if self.encoding:
            parts.append(self.encoding + (" with lines in another encoding" if self.mixed else ""))
        return ", ".join([*parts, *filter(None, [self.packed.kind])])


def layout_of(path: Path, packed: Packed) -> Layout:
    """Raises NotReadable for what is no data file, BadArchive for an archive that cannot be read."""
    with opened(path, packed) as file:
        head = file.read(512)
        if head[257:262] == b"ustar":
            raise NotReadable("the file is a tar archive; unpack it first: tar -xf FILE", param="file")
        for magic, name in BINARY.items():
            if head.startswith(magic):
                return Layout(name, packed)
        what = next(
            (what for magic, what in ELSEWHERE.items() if head.lstrip().lower().startswith(magic.lower())), None
        )
        if what:
            raise NotReadable(f"the file is {what}", param="file")
    with opened(path, packed) as file:
        encoding = encoding_of(file)
    layout = Layout("", packed, *encoding)
    with text(path, layout) as file:
        start = file.read(SAMPLE)
    if b"\x00" in start:
        raise NotReadable("the file is binary, and none of JSONL, JSON, CSV, XLSX, Parquet or Arrow", param="file")
    first = start.lstrip()[:1]
    if first != b"[" and _is_json_lines(path, layout, 2 if first == b"{" else LOOKED_AT):
        return layout._replace(format=JSONL)
    if first == b"[":
        return layout._replace(format=JSON, rows=JsonRows("members", frozenset([()])))
    if first == b"{":
        with text(path, layout) as file:
            rows = json_rows(Marked(file))
        alone = rows.kind == "values" and b"\n" not in start.strip() and _is_object(start.strip())
        return layout._replace(format=JSONL if alone else JSON, rows=rows)
    delimiter, escaped = _dialect(start.decode(UTF8, "replace"), whole=len(start) < SAMPLE)
    if not delimiter and YAML_START.match(start):
        return layout._replace(format=YAML)
    table = layout._replace(format=CSV, delimiter=delimiter, escaped=escaped)
    return table._replace(header=without_header(path, table) if delimiter else ())


@contextmanager
def text(path: Path, layout: Layout) -> Generator[BinaryIO]:
    """The file's text as UTF-8 bytes."""
    with opened(path, layout.packed) as file:
        if layout.encoding == UTF8:
            yield file
        else:
            with io.BufferedReader(_Transcoded(file, layout.encoding), 1 << 16) as decoded:
                yield decoded


class _Transcoded(io.RawIOBase):
    """Text of any encoding as UTF-8. What cannot be decoded becomes U+FFFD, which the readers refuse."""

    def __init__(self, file: BinaryIO, encoding: str):
        self._text = io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="")
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = self._text.read(1 << 15).encode(UTF8, "replace")
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)

    def close(self) -> None:
        if not self.closed:
            self._text.detach()
        super().close()


def _is_json_lines(path: Path, layout: Layout, looked_at: int) -> bool:
    """Whether one of the first lines is an object by itself, and the file has more than one line."""
    with text(path, layout) as file:
        lines = list(islice((line for line in bounded_lines(file) if line.strip()), looked_at))
    return len(lines) > 1 and any(_is_object(line) for line in lines)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _dialect(sample: str, whole: bool) -> tuple[str, bool]:
    """(delimiter, escaped) by which most of the first rows have as many cells as the header; "" for a single column."""
    escaped = '\\"' in sample and '""' not in sample.replace(',""', "").replace('"",', "")
    lines = sample.splitlines(keepends=True)
    if lines and lines[0].lower().startswith("sep=") and len(lines[0].strip()) == 5:
        return lines[0].strip()[4], escaped
    best, delimiter = (0.0, 0), ""
    for candidate in DELIMITERS:
        widths = _widths(lines if whole else lines[:-1], candidate, escaped)
        if widths and widths[0] > 1:
            score = (sum(width == widths[0] for width in widths) / len(widths), widths[0])
            best, delimiter = max((best, delimiter), (score, candidate), key=lambda pair: pair[0])
    header = next(csv.reader(lines[:1], **dialect(delimiter, escaped)), [])
    wordy = sum(" " in cell.strip() for cell in header) > len(header) / 2 and len(lines[0]) > LONGEST_NAME
    prose = wordy or max(map(len, header), default=0) > LONGEST_NAME
    if prose or (best[0] < TABLE_SHARE and not any(is_question(cell.strip("\ufeff ")) for cell in header)):
        delimiter = ""
    return delimiter, escaped


def _widths(lines: Iterable[str], delimiter: str, escaped: bool) -> list[int]:
    widths = []
    try:
        for row in csv.reader(lines, **dialect(delimiter, escaped)):
            if row:
                widths.append(len(row))
            if len(widths) == SAMPLE_ROWS:
                break
    except csv.Error:
        pass
    return widths


def dialect(delimiter: str, escaped: bool) -> dict[str, Any]:
    """Arguments of csv.reader."""
    return {"delimiter": delimiter or ONE_COLUMN, "doublequote": not escaped, "escapechar": "\\" if escaped else None}


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


LETTERS = "ABCDEFGH"


def header(layout: Layout, first: list[str]) -> tuple[list[str], bool]:
    """(names of the columns, whether the first row is the header) of a table."""
    if layout.header:
        return [*layout.header, *(f"column_{n}" for n in range(len(layout.header) + 1, len(first) + 1))], False
    return named_columns(first), True


def without_header(path: Path, layout: Layout) -> tuple[str, ...]:
    """The names of a table's columns that has no header: of a test as MMLU has it, question, A, B, C, D and a letter."""
    with text(path, layout) as file:
        sample = file.read(SAMPLE).decode(UTF8, "replace").splitlines(keepends=True)
    rows: list[list[str]] = []
    try:
        rows += islice(
            (row for row in csv.reader(sample[:-1] or sample, **dialect(layout.delimiter, layout.escaped)) if row),
            SAMPLE_ROWS,
        )
    except csv.Error:
        return ()
    width = len(rows[0]) if rows else 0
    letters = LETTERS[: max(width - 2, 0)]
    if 4 <= width <= 2 + len(LETTERS) and all(len(row) == width and row[-1].strip() in [*letters] for row in rows):
        return ("question", *letters, "answer")
    return ()
