"""Packed files: gzip, bzip2, xz, zstd and a zip of data files are read as what they hold, with limits that stop bombs early."""

import bz2
import gzip
import io
import lzma
import tempfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from shared.importing.archive import ZIP, BadArchive, Limited, opened_zip, unpacked

MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
UNREADABLE = {b"7z\xbc\xaf\x27\x1c": "7z x FILE", b"Rar!": "unrar x FILE"}
MOST_BYTES = 20 * 2**30  # unpacked
MOST_MEMBERS = 1000  # data files of a zip
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
MOST_SHOWN = 10  # names in a message
NOISE = ("__MACOSX/", ".DS_Store", "Thumbs.db")
ERRORS = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


class Packed(NamedTuple):
    """kind: gzip, bzip2, xz, zstd, zip, or "" for a file that is not packed. member: the zip's file that is read."""

    kind: str = ""
    member: str = ""


class Packing(NamedTuple):
    """How a file is packed: once, or for each of a zip's data files, in the order of their names. unread: the zip's other files."""

    parts: list[Packed]
    unread: tuple[str, ...] = ()


def packing_of(path: Path, member: str = "") -> Packing:
    """member: the one file of a zip that is read. Raises BadArchive for archives that cannot be read, with the command that unpacks
    them."""
    with path.open("rb") as file:
        head = file.read(8)
    for magic, command in UNREADABLE.items():
        if head.startswith(magic):
            raise BadArchive(
                f"the file is an archive of a kind that is not read; unpack it first: {command}", param="file"
            )
    kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "")
    if not kind and head.startswith(ZIP + b"\x03\x04"):
        with opened_zip(path) as archive:
            infos = [info for info in archive.infolist() if info.filename and not info.filename.endswith("/")]
        if not any(info.filename.startswith(SPREADSHEET) for info in infos):
            if sum(info.compress_size for info in infos) > path.stat().st_size:
                raise BadArchive("the zip's files lie over one another", param="file")
            return _members([info.filename for info in infos], member)
    if member:
        raise BadArchive(f"{member[:60]!r} names a file of a zip, and the file is no zip", param="member")
    return Packing([Packed(kind)])


def _members(names: list[str], member: str) -> Packing:
    files = [name for name in names if not name.startswith(NOISE[0]) and not name.endswith(NOISE[1:])]
    data = files
    if len(files) > 1:  # a README beside the data is no data
        data = [name for name in files if name.lower().endswith(DATA) and name.rpartition("/")[2] not in ABOUT]
    if member:
        data = [name for name in files if name == member] or [name for name in files if name.endswith(f"/{member}")]
        if len(data) != 1:
            raise BadArchive(
                f"the zip holds {len(data)} files named {member[:60]!r}; it has {names_shown(files)}", param="member"
            )
    if not data:
        raise BadArchive(f"the zip holds no data file, but {names_shown(files) or 'nothing'}", param="file")
    if len(data) > MOST_MEMBERS:
        raise BadArchive(f"the zip holds {len(data)} data files; {MOST_MEMBERS} are read at most", param="file")
    return Packing([Packed("zip", name) for name in sorted(data)], (*sorted({*files} - {*data}),))


def names_shown(names: Sequence[str]) -> str:
    """A few of them, for people."""
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(name[-60:] for name in names[:MOST_SHOWN]) + more


@contextmanager
def opened(path: Path, packed: Packed) -> Generator[BinaryIO]:
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
def seekable(path: Path, packed: Packed) -> Generator[Path]:
    """The path of the unpacked file: of a temporary copy where it is packed."""
    if not packed.kind:
        yield path
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".unpacked-") as copy, opened(path, packed) as file:
        while chunk := file.read(1 << 20):
            copy.write(chunk)
        copy.flush()
        yield Path(copy.name)
