"""All graders of a step by their names: text similarities as they are, those that verify each in a process of its own."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from shared.contracts.errors import UserError
from shared.contracts.formula import value
from shared.contracts.grader_kinds import (
    UNGRADABLE,
    CodeTestsGrader,
    Grader,
    MultiGrader,
    PythonGrader,
    StringCheckGrader,
    TextSimilarityGrader,
    VerifyingGrader,
    name_of,
)
from shared.contracts.graders import VERIFYING
from shared.contracts.json_types import Json
from shared.grading.bounded import BoundedGrader, Graded
from shared.grading.code import CodeGrader
from shared.grading.texts import TextGrader
from shared.judging.graders import score


class NamedGrader:
    """A text similarity."""

    def __init__(self, grader: Grader):
        self.grader = grader

    def score(self, answer: str, reference: str, question: str = "", item: Json | None = None) -> Graded:
        return Graded(score(self.grader, answer, reference)) if reference else Graded(0.0, UNGRADABLE)


class FormulaGrader:
    """parts: by their names in the formula."""

    def __init__(self, formula: str, parts: "Mapping[str, Scorer]"):
        self.formula, self.parts = formula, parts

    def score(self, answer: str, reference: str, question: str = "", item: Json | None = None) -> Graded:
        """A part that cannot grade against the reference leaves the whole without a score."""
        graded = {name: part.score(answer, reference, question, item) for name, part in self.parts.items()}
        if any(one.why == UNGRADABLE for one in graded.values()):
            return Graded(0.0, UNGRADABLE)
        failed = next((one for one in graded.values() if one.why), Graded(0.0))
        return failed._replace(score=value(self.formula, {name: one.score for name, one in graded.items()}))


Scorer = NamedGrader | TextGrader | BoundedGrader | CodeGrader | FormulaGrader


class Graders:
    """verifying: the graders beside the named ones. files: uploaded files that they read, by their ids. sandbox: the operator
    allows code to be run. Raises UserError for graders that need it otherwise."""

    def __init__(
        self,
        verifying: Sequence[VerifyingGrader] = (),
        files: Mapping[str, Path] | None = None,
        sandbox: bool = False,
    ):
        self._files, self._sandbox, self._open = files or {}, sandbox, ExitStack()
        self._one_at_a_time = threading.Lock()
        self._scorers: dict[str, Scorer] = {grader.value: NamedGrader(grader) for grader in Grader}
        self._scorers |= {name_of(spec): self._scorer(spec) for spec in verifying}

    def _scorer(self, spec: Grader | VerifyingGrader) -> Scorer:
        match spec:
            case Grader():
                return NamedGrader(spec)
            case MultiGrader():
                return FormulaGrader(
                    spec.calculate_output, {name: self._scorer(part) for name, part in spec.graders.items()}
                )
            case StringCheckGrader() | TextSimilarityGrader():
                return TextGrader(spec)
            case PythonGrader() | CodeTestsGrader():
                return self._open.enter_context(CodeGrader(spec, self._sandbox))
            case _:
                return self._open.enter_context(BoundedGrader(spec, self._files))

    def __enter__(self) -> "Graders":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    @property
    def names(self) -> list[str]:
        return list(self._scorers)

    def score(self, name: str, answer: str, reference: str, question: str = "", item: Json | None = None) -> Graded:
        """item: the row's further fields. Raises UserError for a name that is none of `names`."""
        if name not in self._scorers:
            known = ", ".join(dict.fromkeys([*self.names, *VERIFYING]))
            raise UserError(
                f"no grader is called {name!r}; use one of {known}",
                param="distillation.judge.grader",
                code="unknown_grader",
            )
        with self._one_at_a_time:  # rows are graded from several threads, and a grader's process answers one of them
            return self._scorers[name].score(answer, reference, question, item)

    def all_scores(
        self, answer: str, reference: str, question: str = "", item: Json | None = None
    ) -> dict[str, Graded]:
        """Of the named graders only where there is a reference."""
        names = [name for name in self.names if reference or not isinstance(self._scorers[name], NamedGrader)]
        return {name: self.score(name, answer, reference, question, item) for name in names}
