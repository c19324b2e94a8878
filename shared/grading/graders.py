"""All graders of a step by their names: text similarities as they are, those that verify each in a bounded process."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from shared.contracts.distillation import Grader
from shared.contracts.errors import UserError
from shared.contracts.grader_kinds import VERIFYING, VerifyingGrader
from shared.grading.bounded import BoundedGrader, Graded
from shared.judging.graders import score


class Graders:
    """verifying: the graders beside the named ones. files: uploaded files that they read, by their ids."""

    def __init__(self, verifying: Sequence[VerifyingGrader] = (), files: Mapping[str, Path] | None = None):
        self._verifying = {spec.type: BoundedGrader(spec, files or {}) for spec in verifying}
        self._open = ExitStack()

    def __enter__(self) -> "Graders":
        for grader in self._verifying.values():
            self._open.enter_context(grader)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    @property
    def names(self) -> list[str]:
        return [*(grader.value for grader in Grader), *self._verifying]

    def score(self, name: str, answer: str, reference: str) -> Graded:
        """Raises UserError for a name that is none of `names`."""
        if name in self._verifying:
            return self._verifying[name].score(answer, reference)
        if name not in self.names:
            known = ", ".join(dict.fromkeys([*self.names, *VERIFYING]))
            raise UserError(
                f"no grader is called {name!r}; use one of {known}",
                param="distillation.judge.grader",
                code="unknown_grader",
            )
        return Graded(score(Grader(name), answer, reference))

    def all_scores(self, answer: str, reference: str) -> dict[str, Graded]:
        return {name: self.score(name, answer, reference) for name in self.names}
