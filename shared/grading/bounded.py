"""Grading in a process of its own, bounded in time and memory: a regular expression or a query of a model's can need more of
both than there is."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from pydantic import TypeAdapter

from shared.contracts.errors import FatalError
from shared.contracts.grader_kinds import VerifyingGrader, VerifyingKind
from shared.platform.line_process import LineProcess, ProcessEnded, TooSlow

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
    _child: LineProcess | None = None

    def __enter__(self) -> "BoundedGrader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def score(self, answer: str, reference: str, question: str = "") -> Graded:
        """Raises FatalError where the process cannot be started."""
        child = self._child or self._start()
        try:
            return Graded(*json.loads(child.ask(json.dumps([answer, reference]), self.seconds)))
        except (ProcessEnded, TooSlow) as error:
            self.close()
            return Graded(0.0, "slow" if isinstance(error, TooSlow) else "crash")

    def close(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _start(self) -> LineProcess:
        argv = [sys.executable, "-m", "shared.grading.child", str(self.memory)]
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG", "LC_ALL")}
        child = self._child = LineProcess(argv, kept)
        files = {name: str(path) for name, path in self.files.items()}
        begin = json.dumps([_SPEC.dump_python(self.spec, mode="json", by_alias=True), files])
        try:
            child.ask(begin, START_S)
        except (ProcessEnded, TooSlow):
            self.close()
            raise FatalError("the process that grades answers did not start", code="grader_failed") from None
        return child
