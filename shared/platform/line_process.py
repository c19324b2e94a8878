"""A child process that answers a line with a line, within a time, and that is killed with all that it started."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class ProcessEnded(Exception):
    """The process is gone."""


class TooSlow(Exception):
    """There was no answer in time."""


class TooLong(Exception):
    """The answer is longer than it may be."""


class LineProcess:
    """In a session of its own, with this environment and nothing of this process's."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path | str | None = None, quiet: bool = False):
        self._child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            start_new_session=True,
            cwd=cwd,
            env=dict(env),
        )

    def ask(self, line: str, seconds: float, most: int | None = None) -> bytes:
        """The answer to a line. most: its bytes. Raises ProcessEnded, TooSlow, TooLong; after each of them it has to be ended."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(line.encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise ProcessEnded from None
        return self._answer(seconds, most)

    def _answer(self, seconds: float, most: int | None) -> bytes:
        assert self._child.stdout is not None
        deadline, answer = time.monotonic() + seconds, bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while not answer.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TooSlow
                piece = os.read(self._child.stdout.fileno(), 65_536)
                if not piece:
                    raise ProcessEnded
                answer += piece
                if most is not None and len(answer) > most:
                    raise TooLong
        return bytes(answer)

    def end(self) -> None:
        """Kill the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
