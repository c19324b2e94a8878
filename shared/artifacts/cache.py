"""A bounded folder of copies: what was used longest ago goes first, what is in use stays.

Processes of one machine share the folder. An entry is in use while a process holds a shared lock on it, which ends with the process. Its
modification time is its last use.
"""

import fcntl
import os
import shutil
import threading
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.platform.log import get_logger

log = get_logger(__name__)
HELD_S = 600.0  # an entry that was asked for stays for so long, for whoever was given its path
MOST_HELD = 256  # open files of a process
ROOM = 0.9  # what remains after an eviction
NAME = 64  # characters of an entry's name


class Cache:
    """most: bytes. root/<two digits>/<digest>: a file or a folder."""

    def __init__(self, root: Path, most: int):
        self.root, self.most = root, most
        self._held: dict[Path, tuple[int, float]] = {}  # path -> open file, and when it was asked for
        self._keeps = False
        self._grown = most  # bytes since the last look; the first one is due
        self._lock = threading.Lock()

    def __reduce__(self):
        return Cache, (self.root, self.most)

    def use(self, path: Path) -> bool:
        """Note the use of an entry and hold it; False where it is gone."""
        with self._lock:
            self._release_old()
            if path not in self._held or not _same(self._held[path][0], path):
                handle = _hold(path)
                if handle is None:
                    return False
                if path in self._held:
                    os.close(self._held[path][0])
                self._held[path] = handle, time.monotonic()
            self._held[path] = self._held[path][0], time.monotonic()
        with suppress(FileNotFoundError):
            os.utime(path)
        return True

    @contextmanager
    def kept(self) -> Generator[None]:
        """Nothing that was asked for inside is evicted before the end; for one piece of work at a time of a process."""
        self._keeps = True
        try:
            yield
        finally:
            with self._lock:
                self._keeps = False
                self._release_old(0.0)

    def _release_old(self, age_s: float = HELD_S) -> None:
        """The oldest first, which are the first in the dictionary but for those that were asked for again."""
        if self._keeps:
            return
        now = time.monotonic()
        ages = sorted(self._held.items(), key=lambda item: item[1][1])
        for number, (path, (handle, asked)) in enumerate(ages):
            if now - asked >= age_s or len(ages) - number > MOST_HELD:
                os.close(handle)
                del self._held[path]

    def grew(self, size: int) -> None:
        """So many bytes came; evict where that may be too much."""
        with self._lock:
            self._grown += size
            due = self._grown > self.most / 20
            if due:
                self._grown = 0
        if due:
            self.evict()

    def evict(self) -> int:
        """Down to ROOM of the bound where there is more; returns the bytes that went. Of several processes one does it."""
        entries = [
            (last, size, path) for path in self._entries() if (known := _last_and_size(path)) for last, size in [known]
        ]
        total, gone = sum(size for _, size, _ in entries), 0
        if total <= self.most:
            return 0
        for _, size, path in sorted(entries):
            if total - gone <= ROOM * self.most:
                break
            if _removed(path):
                gone += size
        log.info("copies evicted", bytes=gone, left=total - gone)
        return gone

    def _entries(self) -> Iterator[Path]:
        for shelf in self.root.glob("[0-9a-f][0-9a-f]"):
            yield from (path for path in shelf.iterdir() if len(path.name) == NAME)


def _hold(path: Path) -> int | None:
    """An open file with a shared lock on the entry; None where it is gone or goes."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    if _same(handle, path):
        return handle
    os.close(handle)
    return None


def _same(handle: int, path: Path) -> bool:
    """Whether the path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _removed(path: Path) -> bool:
    """Remove an entry that nobody holds."""
    with suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            aside = path.with_name(f".tmp-{uuid.uuid4().hex}")
            path.rename(aside)
        except BlockingIOError:
            return False
        finally:
            os.close(handle)
        shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
        return True
    return False


def _last_and_size(path: Path) -> tuple[float, int] | None:
    try:
        status = path.stat()
        if not path.is_dir():
            return status.st_mtime, status.st_size
        return status.st_mtime, sum(one.lstat().st_size for one in path.rglob("*"))
    except FileNotFoundError:
        return None
