"""Several answers of the student to one question, and what they show about the student. Pure functions; sampling.py draws them.

What passes is decided by the first rule that applies (`Drawn.by`):
"grader": judge.grader gives the answer pass_mark or more; this needs what the grader reads, usually a reference;
"agreement": more than a given share of the question's samples are the same answer by the equality of judge.grader, or else of the
primary metric (self-consistency, Wang et al. 2022); "judge": the judge calls it right; "nobody": none passes.
A text that was cut off never passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import fmean
from typing import Any

from services.orchestrator.method.durable import Emit
from shared.contracts.answer_format import join_answer
from shared.contracts.data import Question
from shared.contracts.phase_records import SampleFigures
from shared.contracts.rows import TOO_LONG, Example, StudentCompletion

EASY, HARD = 0.8, 0.1  # pass rates between which a question teaches most (DART-Math, Tong et al. 2024)


@dataclass(frozen=True)
class Drawn:
    """One question's samples. Each list has a value for each completion. groups: the same number for the same answer, 0 for
    the one with most votes; None: it says nothing to the grader, or was cut off. by: the rule that says what passed. scores: by
    judge.grader; empty where it did not grade. reference_passes: judge.grader passes the record's reference; False where it was not
    asked."""

    question: Question
    completions: Sequence[StudentCompletion]
    passed: Sequence[bool]
    groups: Sequence[int | None]
    by: str
    scores: Sequence[float] = ()
    reference_passes: bool = False

    @property
    def pass_rate(self) -> float:
        return sum(self.passed) / max(len(self.passed), 1)

    def share(self, group: int) -> float:
        """Of all votes."""
        return self.groups.count(group) / max(len(self.groups), 1)

    def texts(self, passed: bool) -> list[str]:
        """Whole completions that passed, or did not, each text once, in order."""
        pairs = zip(self.completions, self.passed, strict=True)
        return list(dict.fromkeys(text_of(c) for c, ok in pairs if ok is passed and is_whole(c)))

    def kept(self, most: int) -> list[str]:
        """The distinct texts to learn: `most`, or one of a question that is nearly always or hardly ever passed."""
        return self.texts(passed=True)[: most if HARD <= self.pass_rate <= EASY else 1]


def each_once(examples: Sequence[Example]) -> list[Example]:
    """Without rows that stand there twice: a sample may be what the student was trained on before."""
    return list({(example.id, example.completion): example for example in examples}.values())


def is_whole(completion: StudentCompletion) -> bool:
    return completion.whole and bool(completion.answer.strip())


def text_of(completion: StudentCompletion) -> str:
    return join_answer(completion.rationale, completion.answer)


def pass_at(n: int, passed: int, k: int) -> float:
    """The unbiased estimate from n samples, of which `passed` pass, that one of k passes (Chen et al. 2021, arXiv 2107.03374,
    section 2.1): 1 - C(n - passed, k) / C(n, k). k is at most n."""
    return 1.0 - comb(n - passed, k) / comb(n, k)


def figures_of(drawn: Sequence[Drawn], kept: int = 0) -> SampleFigures:
    """Of the questions that fit into the student's context. Pass rates count those that a grader or the judge verified; where there is
    none, what passed is no more than agreed on."""
    answered = [one for one in drawn if any(c.finish_reason != TOO_LONG for c in one.completions)]
    verified = [one for one in answered if one.by in ("grader", "judge")]
    n = min((len(one.completions) for one in answered), default=0)
    ks = sorted({k for k in (1, 2, 4, 8, 16, 32, 64) if k < n} | ({n} if n else set()))
    return SampleFigures(
        questions=len(answered),
        verified=len(verified),
        samples=n,
        pass_at={
            str(k): round(fmean(pass_at(len(one.passed), sum(one.passed), k) for one in verified), 4)
            for k in (ks if verified else ())
        },
        agreed=round(fmean(one.share(0) for one in answered), 4) if answered else None,
        distinct=round(fmean(len({*one.groups} - {None}) for one in answered), 2) if answered else None,
        cut_off=sum(c.cut_off for one in answered for c in one.completions),
        too_long=len(drawn) - len(answered),
        kept=kept,
        reward=_mean([score for one in answered for score in one.scores]),
    )


def _mean(scores: Sequence[float]) -> float | None:
    return round(fmean(scores), 4) if scores else None


async def tell_samples(emit: Emit, name: str, figures: SampleFigures, **data: Any) -> None:
    """An event with the figures, and a warning where the gate says that there is little to select."""
    await emit(f"{name}: {figures.words}", type="metrics", sampled=figures.model_dump(mode="json"), **data)
    if figures.gate_closed:
        await emit(f"{name}: {figures.gate_words}", level="warn")
