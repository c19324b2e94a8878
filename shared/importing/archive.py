"""Reading zip archives with limits that stop zip bombs early."""

import io
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from shared.contracts.errors import UserError

ADVICE = {
    b"7z\xbc\xaf\x27\x1c": "7z x FILE",
    b"\x1f\x8b": "gunzip FILE",
    b"BZh": "bunzip2 FILE",
    b"\xfd7zXZ\x00": "unxz FILE",
    b"\x28\xb5\x2f\xfd": "unzstd FILE",
    b"Rar!": "unrar x FILE",
}
ZIP = b"PK"
DIRECTORY_BYTES = 4 * 2**20  # of a zip's directory: 90,000 of the shortest names
MOST_RATIO = 100  # unpacked to packed size; texts have about 10
RATIO_FROM = 10 * 2**20  # unpacked bytes from which the ratio is checked
BROKEN = (zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error, lzma.LZMAError, EOFError, ValueError)
BROKEN += (OSError, struct.error)


class BadArchive(UserError):
    code = "invalid_archive"


class _Guarded(io.FileIO):
    """A file whose reads are at most as long as a zip's directory may be."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        if (left if size is None or size < 0 else min(size, left)) > DIRECTORY_BYTES:
            raise BadArchive("the zip lists too many files", param="file")
        return super().read(size)


class Limited(io.RawIOBase):
    """Packed bytes while they are unpacked. packed: their number. limit: the most that may come out of them."""

    def __init__(self, file, packed: int, limit: int, errors: tuple[type[Exception], ...] = BROKEN):
        self._file, self._packed, self._limit, self._errors, self._read = file, packed, limit, errors, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            chunk = self._file.read(len(buffer))
        except self._errors as error:
            raise BadArchive(f"the packed file is damaged: {error}", param="file") from error
        self._read += len(chunk)
        if self._read > self._limit:
            raise BadArchive(f"the file unpacks to more than {self._limit} bytes", param="file")
        if self._read > max(RATIO_FROM, MOST_RATIO * self._packed):
            raise BadArchive(
                f"the file unpacks to more than {MOST_RATIO} times its size; if that is intended, unpack it first",
                param="file",
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)


def refuse_packed(head: bytes) -> None:
    """Raises BadArchive for other archive formats, with the command that unpacks them."""
    for magic, command in ADVICE.items():
        if head.startswith(magic):
            raise BadArchive(f"the file is packed; unpack it first: {command}", param="file")


@contextmanager
def opened_zip(path: Path) -> Generator[zipfile.ZipFile]:
    """Raises BadArchive if the file is no zip, is damaged, or has too many members."""
    with _Guarded(str(path)) as file:
        try:
            archive = zipfile.ZipFile(file)
        except BROKEN as error:
            raise BadArchive(f"the file is not a readable zip: {error}", param="file") from error
        with archive:
            yield archive


def unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> BinaryIO:
    """A member's bytes as a stream; its name is never used as a path. Raises BadArchive."""
    if member.flag_bits & 1:
        raise BadArchive("a file in the zip is encrypted", param="file")
    try:
        file = archive.open(member)
    except BROKEN as error:
        raise BadArchive(f"the zip is damaged: {error}", param="file") from error
    return io.BufferedReader(Limited(file, member.compress_size, limit), 1 << 16)


def member_named(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """The only member of that name, in any folder. Raises BadArchive."""
    members = [info for info in archive.infolist() if info.filename.rpartition("/")[2] == name]
    if len(members) != 1:
        raise BadArchive(f"the zip holds {len(members)} files named {name}; one is expected", param="file")
    return members[0]
