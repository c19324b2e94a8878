"""A lock between processes: a file that one of them holds at a time. It ends with its holder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Wait until no other process or thread is in here by this path. Raises OSError where the file cannot be made."""
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:  # closing alone does not unlock it: a process that was forked meanwhile has the same file open
            fcntl.flock(lock, fcntl.LOCK_UN)
