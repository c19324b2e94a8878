"""Payloads by content hash under one folder: rows, step results, reports, adapters.

A name is the SHA-256 of the content, so writing twice is harmless and a read detects a damaged file.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from shared.contracts.errors import DiskLow, FatalError
from shared.contracts.steps import canonical

HASH_LENGTH = 64


class ArtifactMissing(FatalError):
    code = "artifact_missing"


def _checked(digest: str) -> str:
    if len(digest) != HASH_LENGTH or not all(c in "0123456789abcdef" for c in digest):
        raise ArtifactMissing(f"{digest!r} is not a content hash")
    return digest


class Artifacts:
    """put_json/get_json for values, put_folder/folder for adapters. Writes are atomic: temporary name, fsync, rename.

    floor: bytes that stay free on the disk; a write raises DiskLow if less is free. Putting existing content renews its
    modification time, so that garbage collection (shared.jobs.retention) keeps it.
    """

    def __init__(self, root: Path, floor: int = 0):
        self.root = root
        self.floor = floor
        self._read_before: dict[str, list[tuple]] = {}  # the state of each folder when it was hashed

    def _path(self, digest: str) -> Path:
        return self.root / _checked(digest)[:2] / digest

    def put_json(self, value: Any) -> str:
        """Store one JSON value; returns its content hash."""
        return self.put(canonical(value))

    def put(self, content: bytes) -> str:
        """As put_json, for a value in canonical form."""
        digest = hashlib.sha256(content).hexdigest()
        path = self._path(digest)
        if not _renewed(path):
            self.check_room()
            write_atomically(path, content)
        return digest

    def check_room(self, folder: Path | None = None, needed: int = 0) -> None:
        """Raises DiskLow if less than the floor plus `needed` bytes are free on the disk of the artifacts, or of `folder`."""
        place = folder or self.root
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if free < self.floor + needed:
            work = f"this work needs {needed / 1e9:.1f} GB, and " if needed else ""
            raise DiskLow(
                f"{free / 1e9:.1f} GB are free on the disk of {place}; {work}{self.floor / 1e9:.1f} GB stay free "
                "(METEOR_DISK_FLOOR_GB); make room, or run `meteor gc`"
            )

    def put_rows(self, rows: Iterable[Any]) -> str:
        """As put_json(list(rows)), with one row in memory at a time."""
        return self.put_parts(as_array(canonical(row) for row in rows))

    def put_parts(self, parts: Iterable[bytes]) -> str:
        """As put, with one part in memory at a time."""
        self.check_room()
        digest = hashlib.sha256()
        with temporary_file(self.root) as (file, name):
            for part in parts:
                digest.update(part)
                file.write(part)
            move_durably(file, name, self._path(digest.hexdigest()))
        return digest.hexdigest()

    def file(self, digest: str | None) -> Path:
        """Where the bytes of an artifact lie, for readers of parts of it; its content is not hashed. Raises ArtifactMissing."""
        if digest is None:
            raise ArtifactMissing("no artifact is stored for this row")
        if not self.has(digest):
            raise ArtifactMissing(f"artifact {digest} is missing from {self.root}")
        return self._path(digest)

    def has(self, digest: str) -> bool:
        return self._path(digest).is_file()

    def get_json(self, digest: str | None) -> Any:
        """Raises ArtifactMissing if the digest is None (a row without an artifact), or the file is gone or damaged."""
        if digest is None:
            raise ArtifactMissing("no artifact is stored for this row")
        try:
            content = self._path(digest).read_bytes()
        except FileNotFoundError as error:
            raise ArtifactMissing(f"artifact {digest} is missing from {self.root}") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise ArtifactMissing(f"artifact {digest} was changed on disk; remove it and run the step again")
        return json.loads(content)

    def put_folder(self, source: Path) -> str:
        """Copy a folder as one artifact; returns the hash over names and contents."""
        digest = hash_folder(source)
        target = self._path(digest)
        if not _renewed(target):
            self.check_room()
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".tmp-"))
            try:
                shutil.copytree(source, scratch / "new")
                for path in scratch.rglob("*"):
                    _flush(path)
                (scratch / "new").rename(target)
                _flush(target.parent)
            except OSError:
                if not target.exists():  # else another process put the same content first
                    raise
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        return digest

    def folder(self, digest: str) -> Path:
        """The folder of an artifact. Its content is hashed unless this process has done so since its last change, which takes
        seconds for a whole model. Raises ArtifactMissing if it is gone or damaged.
        """
        path = self._path(digest)
        if not path.is_dir():
            raise ArtifactMissing(f"adapter {digest} is missing from {self.root}")
        looks = _looks(path)
        if self._read_before.get(digest) != looks:
            if hash_folder(path) != digest:
                raise ArtifactMissing(f"adapter {digest} was changed on disk; remove it and run the step again")
            self._read_before[digest] = looks
        return path

    def renew(self, digest: str) -> None:
        """Mark it as used now for garbage collection."""
        _renewed(self._path(digest))

    def all(self) -> Iterator[Path]:
        """Every complete artifact's file or folder."""
        for shelf in self.root.glob("[0-9a-f][0-9a-f]"):
            yield from (path for path in shelf.iterdir() if len(path.name) == HASH_LENGTH)


def _renewed(path: Path) -> bool:
    """Set the modification time to now; returns whether the path exists."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _looks(folder: Path) -> list[tuple]:
    """Names, sizes, times and inodes of its files: a change of any file changes them."""
    stats = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(path.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino) for path, stat in stats]


def as_array(rows: Iterable[bytes]) -> Iterator[bytes]:
    """The parts of a JSON array of these values."""
    yield b"["
    for number, row in enumerate(rows):
        yield b"," + row if number else row
    yield b"]"


@contextmanager
def temporary_file(folder: Path, prefix: str = ".tmp-") -> Iterator[tuple[IO[bytes], Path]]:
    """A new file (mode 0600) and its path; removed at the end unless it was moved away."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=prefix)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def move_durably(file: IO[bytes], source: Path, target: Path) -> None:
    """Move an open temporary file to its place once its content is on the disk."""
    file.flush()
    os.fsync(file.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)
    _flush(target.parent)


def write_atomically(path: Path, content: bytes, prefix: str = ".tmp-") -> None:
    """Write all of the content or nothing, even if the machine stops in the middle."""
    with temporary_file(path.parent, prefix) as (file, name):
        file.write(content)
        move_durably(file, name, path)


def _flush(path: Path) -> None:
    """fsync a file or a folder's names, so that no committed row names a lost artifact."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def hash_folder(folder: Path, without: Collection[str] = ()) -> str:
    """SHA-256 over relative names and file contents, in name order. without: relative names to skip."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).as_posix() not in without):
        with path.open("rb") as file:
            inner = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{inner}\n".encode())
    return digest.hexdigest()
