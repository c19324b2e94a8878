"""Grading by running code: a user's own `grade` function, and tests of a row on the code that a model wrote. Both in the sandbox."""

import re
from types import TracebackType

from shared.contracts.grader_kinds import UNGRADABLE, CodeTestsGrader, PythonGrader
from shared.contracts.json_types import Json
from shared.grading.attempt import Attempt, Graded
from shared.sandbox.outside import CallFailed, Sandbox, SandboxLimits

_FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
# The tests see what the code defines; a name of theirs cannot be in its way before it runs.
_RUN_TESTS = "names = {'__name__': '__main__'}\nexec(compile(code, '<answer>', 'exec'), names)\nexec(compile(tests, '<tests>', 'exec'), names)"


class CodeGrader:
    """allowed: the operator has turned the sandbox on. Raises UserError `sandbox_off` otherwise."""

    def __init__(self, spec: PythonGrader | CodeTestsGrader, allowed: bool):
        self.spec = spec
        limits = SandboxLimits(seconds=spec.timeout_s, memory=spec.memory_mb * 2**20)
        self._sandbox = Sandbox(spec.source if isinstance(spec, PythonGrader) else _RUN_TESTS, allowed, limits)

    def __enter__(self) -> "CodeGrader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._sandbox.close()

    def score(self, attempt: Attempt) -> Graded:
        reference = attempt.reference
        if isinstance(self.spec, PythonGrader):
            return self._by_user(attempt.sample, {"reference": ""} | attempt.item)
        if not reference:
            return Graded(0.0, UNGRADABLE)
        try:
            compile(reference, "<tests>", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return Graded(0.0, UNGRADABLE)
        try:
            self._sandbox.run(code=code_of(attempt.answer), tests=reference)
        except CallFailed as failed:
            return Graded(0.0, failed.why, str(failed) if failed.why else "")
        return Graded(1.0)

    def _by_user(self, sample: Json, item: Json) -> Graded:
        """OpenAI's call: grade(sample, item) -> a number. Outside of [0, 1] it is set to the nearer end."""
        try:
            result = self._sandbox.call("grade", sample, item)
        except CallFailed as failed:
            return Graded(0.0, "error", str(failed))
        if isinstance(result, bool) or not isinstance(result, int | float) or result != result:
            return Graded(0.0, "error", f"grade returned {result!r:.100}, which is no number")
        return Graded(min(1.0, max(0.0, float(result))))


def code_of(text: str) -> str:
    """The code in an answer: inside its fences, or all of it."""
    return "\n".join(_FENCED.findall(text)) or text
