"""A lock between processes: a file that one of them holds at a time. It ends with its holder."""

import asyncio
import fcntl
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

LOOK_S = 0.5  # between two tries


@contextmanager
def only_one(path: Path) -> Generator[None]:
    """Wait until no other process or thread is in here by this path. Raises OSError where the file cannot be made."""
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:  # closing alone does not unlock it: a process that was forked meanwhile has the same file open
            fcntl.flock(lock, fcntl.LOCK_UN)


@asynccontextmanager
async def lock_in_turn(path: Path, on_wait: Callable[[], object]) -> AsyncGenerator[None]:
    """As only_one, for a coroutine, which can be cancelled while it waits. on_wait: called at each try that finds another holder."""
    with path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                on_wait()
            await asyncio.sleep(LOOK_S)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
