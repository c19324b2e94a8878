"""Packed files: gzip, bzip2, xz, zstd and a zip with one file are read as what they hold, with limits that stop bombs early."""

import bz2
import gzip
import io
import lzma
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from shared.importing.archive import ZIP, BadArchive, Limited, opened_zip, unpacked

MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
UNREADABLE = {b"7z\xbc\xaf\x27\x1c": "7z x FILE", b"Rar!": "unrar x FILE"}
MOST_BYTES = 20 * 2**30  # unpacked
SPREADSHEET = "xl/workbook"  # a member of every XLSX and XLSB file
DATA = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".xlsx", ".parquet", ".arrow", ".yaml", ".yml")
ABOUT = (
    "package.json",
    "config.json",
    "dataset_info.json",
    "dataset_infos.json",
    "metadata.json",
    "dataset-metadata.json",
)
NOISE = ("__MACOSX/", ".DS_Store", "Thumbs.db")
ERRORS = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


class Packed(NamedTuple):
    """kind: gzip, bzip2, xz, zstd, zip, or "" for a file that is not packed. member: the zip's file that is read."""

    kind: str = ""
    member: str = ""


def packing_of(path: Path) -> Packed:
    """Raises BadArchive for archives that cannot be read, with the command that unpacks them."""
    with path.open("rb") as file:
        head = file.read(8)
    for magic, command in UNREADABLE.items():
        if head.startswith(magic):
            raise BadArchive(
                f"the file is an archive of a kind that is not read; unpack it first: {command}", param="file"
            )
    kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "")
    if kind or not head.startswith(ZIP + b"\x03\x04"):
        return Packed(kind)
    with opened_zip(path) as archive:
        names = [info.filename for info in archive.infolist() if info.filename and not info.filename.endswith("/")]
        if any(name.startswith(SPREADSHEET) for name in names):
            return Packed()
        data = [name for name in names if not name.startswith(NOISE[0]) and not name.endswith(NOISE[1:])]
    if len(data) > 1:  # a README beside the data is no data
        data = [name for name in data if name.lower().endswith(DATA) and name.rpartition("/")[2] not in ABOUT] or data
    if len(data) != 1:
        shown = ", ".join(name[-60:] for name in data[:5]) or "none"
        raise BadArchive(
            f"the zip holds {len(data)} files ({shown}); one is expected: upload each by itself", param="file"
        )
    return Packed("zip", data[0])


@contextmanager
def opened(path: Path, packed: Packed) -> Iterator[BinaryIO]:
    """The unpacked bytes as a stream. Reading it raises BadArchive for a damaged file and for a bomb."""
    if packed.kind == "zip":
        with opened_zip(path) as archive:
            yield unpacked(archive, archive.getinfo(packed.member), MOST_BYTES)
        return
    with path.open("rb") as file:
        if not packed.kind:
            yield file
            return
        yield io.BufferedReader(Limited(_stream(file, packed.kind), path.stat().st_size, MOST_BYTES, ERRORS), 1 << 16)


def _stream(file: BinaryIO, kind: str):
    match kind:
        case "gzip":
            return gzip.GzipFile(fileobj=file)
        case "bzip2":
            return bz2.BZ2File(file)
        case "xz":
            return lzma.LZMAFile(file)
        case _:
            import pyarrow  # here, as in records.py: it brings numpy, and the API starts without

            return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")


@contextmanager
def seekable(path: Path, packed: Packed) -> Iterator[Path]:
    """The path of the unpacked file: of a temporary copy where it is packed."""
    if not packed.kind:
        yield path
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".unpacked-") as copy, opened(path, packed) as file:
        while chunk := file.read(1 << 20):
            copy.write(chunk)
        copy.flush()
        yield Path(copy.name)
