"""Grading in a process of its own with limits of time and memory, because a model's regular expression or query may need too much of both."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import TypeAdapter

from shared.contracts.errors import FatalError, UserError
from shared.contracts.grader_kinds import (
    UNGRADABLE,
    JsonSchemaGrader,
    PluginGrader,
    RegexEqualGrader,
    SqlResultGrader,
    VerifyingGrader,
    VerifyingKind,
    name_of,
)
from shared.grading.attempt import Attempt, Graded
from shared.platform.line_process import LineProcess, ProcessEnded, TooSlow

SECONDS, MEMORY = 10.0, 2 * 2**30  # of one answer, where the kind has no limit of its own; bytes of the process
START_S = 60.0
SPARE_S = 1.0  # beyond a limit that the grader itself keeps
_SPEC = TypeAdapter(VerifyingKind)


class Said(NamedTuple):
    """What a text says to a grader. key: equal for texts that say the same; None where only a comparison tells."""

    key: str | None


@dataclass
class _Bounded:
    """One spec in a child process, which is started when it is first asked and again after one that was stopped.

    files: uploaded files that the grader reads, by their ids. seconds: of one answer; None: as the spec has it.
    """

    spec: VerifyingGrader
    files: Mapping[str, Path] = field(default_factory=dict)
    seconds: float | None = None
    memory: int = MEMORY
    _child: LineProcess | None = None
    _work: ClassVar[str]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def limit(self) -> float:
        """Seconds. A query keeps its own time; there are two of them."""
        if self.seconds is not None:
            return self.seconds
        match self.spec:
            case RegexEqualGrader() | PluginGrader():
                return self.spec.timeout_s
            case SqlResultGrader():
                return 2 * self.spec.timeout_s + SPARE_S
            case _:
                return SECONDS

    def _ask(self, texts: Sequence[str], limit: float | None = None) -> Any:
        """limit: seconds, where they are not the usual ones. Raises ProcessEnded and TooSlow, after which the next text starts the
        process again; FatalError where it does not start; UserError for a plugin that is not fit."""
        child = self._child or self._start()
        try:
            return json.loads(child.ask(json.dumps(texts), limit or self.limit))
        except (ProcessEnded, TooSlow):
            self.close()
            raise

    def close(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _start(self) -> LineProcess:
        argv = [sys.executable, "-m", "shared.grading.child", str(self.memory)]
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG", "LC_ALL")}
        child = self._child = LineProcess(argv, kept)
        files = {name: str(path) for name, path in self.files.items()}
        begin = json.dumps([self._work, _SPEC.dump_python(self.spec, mode="json", by_alias=True), files])
        try:
            unfit = json.loads(child.ask(begin, START_S))
        except (ProcessEnded, TooSlow):
            self.close()
            if isinstance(self.spec, PluginGrader):
                raise self._unfit(f"importing it took more than {START_S:g} s, or ended the process") from None
            raise FatalError("the process that grades answers did not start", code="grader_failed") from None
        if unfit is not None:
            self.close()
            raise self._unfit(unfit)
        return child

    def _unfit(self, why: str) -> UserError:
        return UserError(f"grader {name_of(self.spec)}: {why}", param="distillation.judge.grader", code="bad_grader")


class BoundedGrader(_Bounded):
    """Grades answers against references."""

    _work = "grade"

    def try_start(self) -> None:
        """Raises what `score` raises before it has graded anything."""
        if self._child is None:
            self._start()

    def score(self, attempt: Attempt) -> Graded:
        """Raises FatalError where the process cannot be started, UserError for a plugin that is not fit."""
        if not attempt.reference and not (isinstance(self.spec, JsonSchemaGrader) and self.spec.of is not None):
            return Graded(0.0, UNGRADABLE)
        try:
            return Graded(*self._ask([attempt.answer, attempt.reference]))
        except ProcessEnded:
            return Graded(0.0, "crash", "grading this answer ended the grader's process")
        except TooSlow:
            if self._too_slow_by_itself(attempt.reference):
                return Graded(0.0, UNGRADABLE, f"reading this reference took more than {self.limit:g} s")
            return Graded(0.0, "slow", f"grading this answer took more than {self.limit:g} s")

    def _too_slow_by_itself(self, reference: str) -> bool:
        """Whether the reference is to blame: it does not even compare with itself, which reads it twice."""
        try:
            self._ask([reference, reference], 2 * self.limit)
        except (ProcessEnded, TooSlow):
            return True
        return False


class BoundedEquality(_Bounded):
    """Tells which answers are the same, without a reference."""

    _work = "compare"

    def read(self, text: str) -> Said | None:
        """None where the text says nothing to the grader, or cannot be read within the limits."""
        try:
            said = self._ask([text])
        except (ProcessEnded, TooSlow):
            return None
        return None if said is None else Said(*said)

    def same(self, one: str, other: str) -> bool:
        """Of two texts that can be read; False where that takes too long."""
        try:
            return self._ask([one, other])
        except (ProcessEnded, TooSlow):
            return False
