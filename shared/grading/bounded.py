"""Grading in a process of its own, bounded in time and memory: a regular expression or a query of a model's can need more of
both than there is."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

from pydantic import TypeAdapter

from shared.contracts.errors import FatalError
from shared.contracts.grader_kinds import VerifyingGrader, VerifyingKind

SECONDS, MEMORY = 10.0, 2 * 2**30  # of one answer; bytes of the process
START_S = 60.0
_SPEC = TypeAdapter(VerifyingKind)


class Graded(NamedTuple):
    """score in [0, 1]. why: "" for a plain score; slow, crash: the grader was stopped, so the score is 0; reference: the row
    cannot be graded, which is no fault of the answer; error: the user's own grader failed. words: of that error."""

    score: float
    why: str = ""
    words: str = ""


@dataclass
class BoundedGrader:
    """Grades by one spec in a child process, which is started at the first answer and again after one that was stopped.

    files: uploaded files that the grader reads, by their ids.
    """

    spec: VerifyingGrader
    files: Mapping[str, Path] = field(default_factory=dict)
    seconds: float = SECONDS
    memory: int = MEMORY
    _child: subprocess.Popen[bytes] | None = None
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "BoundedGrader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def score(self, answer: str, reference: str, question: str = "") -> Graded:
        """Raises FatalError where the process cannot be started."""
        with self._one_at_a_time:
            child = self._child or self._start()
            try:
                _write(child, json.dumps([answer, reference]))
                line = _read(child, self.seconds)
            except BrokenPipeError:
                line = b""
            if not line:
                self.close()
                return Graded(0.0, "slow" if line is None else "crash")
            return Graded(*json.loads(line))

    def close(self) -> None:
        """Kill the process and all that it started."""
        if self._child is not None:
            child, self._child = self._child, None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        child = self._child = subprocess.Popen(
            [sys.executable, "-m", "shared.grading.child", str(self.memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG", "LC_ALL")},
        )
        files = {name: str(path) for name, path in self.files.items()}
        _write(child, json.dumps([_SPEC.dump_python(self.spec, mode="json", by_alias=True), files]))
        if _read(child, START_S) != b"ready\n":
            self.close()
            raise FatalError("the process that grades answers did not start", code="grader_failed")
        return child


def _write(child: subprocess.Popen[bytes], line: str) -> None:
    _pipe(child.stdin).write(line.encode() + b"\n")
    _pipe(child.stdin).flush()


def _read(child: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """One line; b"" where the process ended, None where it took longer."""
    deadline, line = time.monotonic() + seconds, bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(_pipe(child.stdout), selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            piece = os.read(_pipe(child.stdout).fileno(), 65_536)
            if not piece:
                return b""
            line += piece
    return bytes(line)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
