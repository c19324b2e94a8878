"""Payloads by content hash: rows, step results, reports, adapters.

A name is the SHA-256 of the content, so writing twice is harmless and a read detects a damaged file.
"""

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

from shared.artifacts.cache import Cache
from shared.artifacts.folders import hash_folder
from shared.artifacts.remote import Damaged, Remote
from shared.contracts.errors import DiskLow, FatalError
from shared.contracts.steps import canonical
from shared.platform.file_lock import only_one

HASH_LENGTH = 64


class ArtifactMissing(FatalError):
    code = "artifact_missing"


def _checked(digest: str) -> str:
    if len(digest) != HASH_LENGTH or not all(c in "0123456789abcdef" for c in digest):
        raise ArtifactMissing(f"{digest!r} is not a content hash")
    return digest


class Artifacts:
    """put_json/get_json for values, put_folder/folder for adapters. Writes are atomic: temporary name, fsync, rename.

    root: the folder of all artifacts; with `remote` a cache of it, whose bound is `most` bytes: an artifact is on the object storage before
    it is in the cache, and what is not in the cache is fetched. A path is good for some minutes; ask for it again, or use `kept`.
    floor: bytes that stay free on the disk; a write raises DiskLow if less is free. Putting existing content renews its
    modification time, so that garbage collection (shared.jobs.retention) keeps it.
    """

    def __init__(self, root: Path, floor: int = 0, remote: Remote | None = None, most: int = 0):
        self.root = root
        self.floor = floor
        self.remote = remote
        self.cache = Cache(root, most) if remote is not None else None
        self._read_before: dict[str, list[tuple]] = {}  # the state of each folder when it was hashed

    def _path(self, digest: str) -> Path:
        return self.root / _checked(digest)[:2] / digest

    def kept(self) -> AbstractContextManager[None]:
        """Paths that are asked for inside stay good until the end; for one piece of work at a time of a process."""
        return self.cache.kept() if self.cache is not None else nullcontext()

    def put_json(self, value: Any) -> str:
        """Store one JSON value; returns its content hash."""
        return self.put(canonical(value))

    def put(self, content: bytes) -> str:
        """As put_json, for a value in canonical form."""
        digest = hashlib.sha256(content).hexdigest()
        path = self._path(digest)
        if self.remote is not None:
            self.remote.put(digest, content)
        if not _renewed(path):
            self.check_room()
            write_atomically(path, content)
            self._grew(len(content))
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
            self._place(digest.hexdigest(), file, name)
        return digest.hexdigest()

    def put_file(self, source: Path, digest: str) -> None:
        """Move a file in. digest: of its content."""
        self.root.mkdir(parents=True, exist_ok=True)
        with source.open("rb+") as file:
            self._place(digest, file, source)

    def _place(self, digest: str, file: IO[bytes], name: Path) -> None:
        file.flush()
        size = name.stat().st_size
        if self.remote is not None:
            self.remote.put_file(digest, name)
        move_durably(file, name, self._path(digest))
        self._grew(size)

    def file(self, digest: str | None) -> Path:
        """Where the bytes of an artifact lie, for readers of parts of it; its content is not hashed. Raises ArtifactMissing."""
        if digest is None:
            raise ArtifactMissing("no artifact is stored for this row")
        return self._here(digest, Path.is_file, "artifact")

    def has(self, digest: str) -> bool:
        return self._path(digest).is_file() or (self.remote is not None and self.remote.has(digest))

    def get_json(self, digest: str | None) -> Any:
        """Raises ArtifactMissing if the digest is None (a row without an artifact), or the file is gone or damaged."""
        for _ in range(2):
            path = self.file(digest)
            try:
                content = path.read_bytes()
            except FileNotFoundError as error:
                raise ArtifactMissing(f"artifact {digest} is missing from {self._place_name}") from error
            if hashlib.sha256(content).hexdigest() == digest:
                return json.loads(content)
            if self.remote is None:
                break
            self._drop(digest)
        raise ArtifactMissing(f"artifact {digest} was changed on disk; remove it and run the step again")

    def put_folder(self, source: Path) -> str:
        """Copy a folder as one artifact; returns the hash over names and contents."""
        digest = hash_folder(source)
        target = self._path(digest)
        if self.remote is not None:
            self.remote.put_folder(digest, source)
        if not _renewed(target):
            self.check_room()
            self._grew(self._make_folder(target, lambda new: shutil.copytree(source, new)))
        return digest

    def folder(self, digest: str) -> Path:
        """The folder of an artifact. Its content is hashed unless this process has done so since its last change, which takes
        seconds for a whole model. Raises ArtifactMissing if it is gone or damaged.
        """
        for _ in range(2):
            path = self._here(digest, Path.is_dir, "adapter")
            looks = _looks(path)
            if self._read_before.get(digest) == looks:
                return path
            if hash_folder(path) == digest:
                self._read_before[digest] = looks
                return path
            if self.remote is None:
                break
            self._drop(digest)
        raise ArtifactMissing(f"adapter {digest} was changed on disk; remove it and run the step again")

    def check_folder(self, digest: str) -> None:
        """As folder, without fetching it. Raises ArtifactMissing."""
        if self.remote is None:
            self.folder(digest)
        elif not self.remote.has_folder(_checked(digest)):
            raise ArtifactMissing(f"adapter {digest} is missing from {self._place_name}")

    def renew(self, digest: str) -> None:
        """Mark it as used now for garbage collection."""
        _renewed(self._path(digest))

    def all(self) -> Iterator[Path]:
        """Every complete artifact's file or folder on this disk."""
        for shelf in self.root.glob("[0-9a-f][0-9a-f]"):
            yield from (path for path in shelf.iterdir() if len(path.name) == HASH_LENGTH)

    @property
    def _place_name(self) -> str:
        return str(self.root) if self.remote is None else self.remote.objects.url

    def _here(self, digest: str, is_there: Callable[[Path], bool], what: str) -> Path:
        """The path of an artifact that is on this disk, or is now. Raises ArtifactMissing."""
        path = self._path(digest)
        if self.cache is None:
            if is_there(path):
                return path
        else:
            fetched = 0
            for _ in range(3):  # it may be evicted before it is held
                if is_there(path) and self.cache.use(path):
                    self.cache.grew(fetched)
                    return path
                fetched = self._fetched(digest, path, as_folder=is_there is Path.is_dir)
                if fetched is None:
                    break
        raise ArtifactMissing(f"{what} {digest} is missing from {self._place_name}")

    def _fetched(self, digest: str, path: Path, as_folder: bool) -> int | None:
        """Copy an artifact from the object storage, of several processes one; returns its bytes, None where it is not there. Raises
        ArtifactMissing for a damaged one."""
        if self.remote is None:
            return None
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with only_one(locks / digest[:2]):
            if path.exists():
                return 0
            self.check_room()
            try:
                if as_folder:
                    return self._make_folder(path, lambda new: self._fetch_folder(digest, new))
                with temporary_file(self.root) as (file, name):
                    if not self.remote.fetch_file(digest, name):
                        return None
                    size = name.stat().st_size
                    move_durably(file, name, path)
                    return size
            except FileNotFoundError:
                return None
            except Damaged as error:
                raise ArtifactMissing(f"{error} in {self._place_name}; remove it and run the step again") from error

    def _fetch_folder(self, digest: str, new: Path) -> None:
        if self.remote is None or not self.remote.fetch_folder(digest, new):
            raise FileNotFoundError(digest)

    def _make_folder(self, target: Path, fill: Callable[[Path], object]) -> int:
        """Put a folder in its place at once; `fill` makes it. Returns its bytes."""
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".tmp-"))
        try:
            fill(scratch / "new")
            for path in scratch.rglob("*"):
                _flush(path)
            size = sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file())
            (scratch / "new").rename(target)
            _flush(target.parent)
            return size
        except OSError:
            if not target.exists():  # else another process put the same content first
                raise
            return 0
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def remove(self, digest: str, still_needed: Callable[[], bool]) -> None:
        """From the object storage, and the copy here."""
        if self.remote is not None and self.remote.remove(digest, still_needed):
            self._drop(digest)

    def _drop(self, digest: str | None) -> None:
        """Forget a damaged copy, so that the next read fetches the artifact."""
        path = self._path(str(digest))
        aside = path.with_name(f".tmp-{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):
            path.rename(aside)
            shutil.rmtree(aside) if aside.is_dir() else aside.unlink()

    def _grew(self, size: int) -> None:
        if self.cache is not None:
            self.cache.grew(size)


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
def temporary_file(folder: Path, prefix: str = ".tmp-") -> Generator[tuple[IO[bytes], Path]]:
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
