"""All graders of a step by their names: text similarities as they are, those that verify each in a process of its own, those that
ask something elsewhere for many attempts at once."""

import asyncio
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

from shared.contracts.errors import UserError
from shared.contracts.formula import value
from shared.contracts.grader_kinds import (
    UNGRADABLE,
    CodeTestsGrader,
    EndpointGrader,
    Grader,
    LabelModelGrader,
    MultiGrader,
    PluginGrader,
    PythonGrader,
    ScoreModelGrader,
    StringCheckGrader,
    TextSimilarityGrader,
    VerifyingGrader,
    name_of,
)
from shared.contracts.graders import VERIFYING
from shared.contracts.json_types import Json
from shared.contracts.steps import content_hash
from shared.grading.attempt import Attempt, Graded
from shared.grading.bounded import BoundedGrader
from shared.grading.code import CodeGrader
from shared.grading.endpoint import EndpointScores
from shared.grading.models import ModelGrader
from shared.grading.plugins import unfit
from shared.grading.texts import TextGrader, too_long
from shared.judging.graders import score
from shared.platform.gateway_client import GatewayClient
from shared.platform.public_addresses import Network


class LocalGrader(Protocol):
    """Grades on this machine, one attempt at a time."""

    def score(self, attempt: Attempt) -> Graded: ...


@runtime_checkable
class RemoteGrader(Protocol):
    """Asks something elsewhere: many attempts at once."""

    async def score_all(self, attempts: Sequence[Attempt]) -> list[Graded]: ...


class NamedGrader:
    """A text similarity."""

    def __init__(self, grader: Grader):
        self.grader = grader

    def score(self, attempt: Attempt) -> Graded:
        reference = attempt.reference
        if not reference:
            return Graded(0.0, UNGRADABLE)
        return too_long(attempt.answer, reference) or Graded(score(self.grader, attempt.answer, reference))


class FormulaGrader:
    """parts: by their names in the formula."""

    def __init__(self, formula: str, parts: "Mapping[str, Scorer]"):
        self.formula, self.parts = formula, parts

    def of(self, graded: Mapping[str, Graded]) -> Graded:
        """By the scores of the parts. A part that cannot grade against the reference leaves the whole without a score."""
        scores = {name: one.value for name, one in graded.items()}
        calls = tuple(call for one in graded.values() for call in one.calls)
        ungradable = next((one for one in graded.values() if one.why == UNGRADABLE), None)
        if ungradable is not None:
            return Graded(0.0, UNGRADABLE, ungradable.words, parts=scores, calls=calls)
        failed = next((one for one in graded.values() if one.why), Graded(0.0))
        return Graded(value(self.formula, scores), failed.why, failed.words, parts=scores, calls=calls)


Scorer = LocalGrader | RemoteGrader | FormulaGrader


def is_remote(scorer: Scorer) -> bool:
    if isinstance(scorer, FormulaGrader):
        return any(is_remote(part) for part in scorer.parts.values())
    return isinstance(scorer, RemoteGrader)


class Graders:
    """verifying: the graders beside the named ones. files: uploaded files that they read, by their ids. sandbox: the operator
    allows code to be run. gateway: for those that ask a strong model. networks: that endpoints may be in beside the public ones. scratch: a folder of the step
    for what they answered. plugins: names of third-party graders that the operator allows. Raises UserError for graders that need what
    is not there."""

    def __init__(
        self,
        verifying: Sequence[VerifyingGrader] = (),
        files: Mapping[str, Path] | None = None,
        sandbox: bool = False,
        gateway: GatewayClient | None = None,
        networks: Sequence[Network] = (),
        scratch: Path | None = None,
        plugins: Collection[str] = (),
    ):
        self._plugins = plugins
        self._networks, self._scratch = networks, scratch
        self._gateway = gateway
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
            case ScoreModelGrader() | LabelModelGrader():
                if self._gateway is None:
                    raise UserError(
                        f"{spec.type} asks a strong model, which nothing here can reach", code="unknown_grader"
                    )
                return ModelGrader(spec, self._gateway)
            case EndpointGrader():
                kept = None if self._scratch is None else self._scratch / f"{content_hash(spec.url)}.scores.jsonl"
                return EndpointScores(spec, self._networks, kept)
            case StringCheckGrader() | TextSimilarityGrader():
                return TextGrader(spec)
            case PythonGrader() | CodeTestsGrader():
                return self._open.enter_context(CodeGrader(spec, self._sandbox))
            case PluginGrader() if why := unfit(spec, self._plugins):
                raise UserError(why, code="grader_off")
            case _:
                return self._open.enter_context(BoundedGrader(spec, self._files))

    def __enter__(self) -> "Graders":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    @property
    def names(self) -> list[str]:
        return list(self._scorers)

    @property
    def ask_elsewhere(self) -> bool:
        return any(is_remote(scorer) for scorer in self._scorers.values())

    def score(self, name: str, answer: str, reference: str, question: str = "", item: Json | None = None) -> Graded:
        """One attempt, by a grader of this machine. item: further fields of the record. Raises UserError for a name that is none of
        `names`."""
        return self._score(self._named(name), Attempt.of(answer, reference, question, item))

    async def score_all(self, name: str, attempts: Sequence[Attempt]) -> list[Graded]:
        """All attempts by one grader, in their order. Local work is done in a thread. Raises UserError for an unknown name, and what
        graders raise that ask elsewhere."""
        return await self._score_all(self._named(name), attempts)

    def all_scores(
        self, answer: str, reference: str, question: str = "", item: Json | None = None
    ) -> dict[str, Graded]:
        """By every grader, which are all of this machine; by the named ones only where there is a reference."""
        names = [name for name in self.names if reference or not self.compares(name)]
        return {name: self.score(name, answer, reference, question, item) for name in names}

    def compares(self, name: str) -> bool:
        """Whether it is a named similarity, which is nothing without a reference."""
        return isinstance(self._scorers[name], NamedGrader)

    def _named(self, name: str) -> Scorer:
        if name not in self._scorers:
            known = ", ".join(dict.fromkeys([*self.names, *VERIFYING]))
            raise UserError(
                f"no grader is called {name!r}; use one of {known}",
                param="distillation.judge.grader",
                code="unknown_grader",
            )
        return self._scorers[name]

    def _score(self, scorer: Scorer, attempt: Attempt) -> Graded:
        if isinstance(scorer, FormulaGrader):
            return scorer.of({name: self._score(part, attempt) for name, part in scorer.parts.items()})
        if isinstance(scorer, RemoteGrader):
            raise TypeError("a grader that asks elsewhere grades many attempts at once: score_all")
        with self._one_at_a_time:  # rows are graded from several threads, and a grader's process answers one of them
            return scorer.score(attempt)

    async def _score_all(self, scorer: Scorer, attempts: Sequence[Attempt]) -> list[Graded]:
        if isinstance(scorer, RemoteGrader):
            return await scorer.score_all(attempts)
        if isinstance(scorer, FormulaGrader) and is_remote(scorer):
            columns = await asyncio.gather(*(self._score_all(part, attempts) for part in scorer.parts.values()))
            return [scorer.of(dict(zip(scorer.parts, row, strict=True))) for row in zip(*columns, strict=True)]
        return await asyncio.to_thread(lambda: [self._score(scorer, attempt) for attempt in attempts])
