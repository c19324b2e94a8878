"""A lock between processes ends with its holder, also where a process was forked meanwhile."""

import fcntl
import os
import signal
import threading
from pathlib import Path

from shared.platform.file_lock import only_one


def is_free(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_process_that_was_forked_meanwhile_does_not_keep_it(tmp_path: Path):
    """As a pool of workers forks while another thread of its parent holds the lock."""
    path = tmp_path / ".lock"
    with only_one(path):
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        assert not is_free(path)
    try:
        assert is_free(path)
        with only_one(path):
            assert not is_free(path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_threads_wait_for_each_other(tmp_path: Path):
    inside, seen = 0, []

    def enter() -> None:
        nonlocal inside
        with only_one(tmp_path / ".lock"):
            inside += 1
            seen.append(inside)
            inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 20
