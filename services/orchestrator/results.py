"""What a measurement and a decision are."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from shared.contracts.distillation import SHARES
from shared.contracts.report import Triple
from shared.contracts.steps import ModelRef
from shared.evaluation.statistics import Interval, gain, mean_interval, share_interval


@dataclass(frozen=True)
class Measured:
    """One student on one split. scores: per grader one value in [0, 1] per question, in the split's order.

    draws: over how many random draws of worked examples each score is the mean; the answers are the first draw's.
    bare: it was asked without worked examples. too_long: so many questions did not fit into its context. missing_markers: so
    many answers have no rationale and marker before them; None where the student was never trained to write them.
    """

    name: str
    model: ModelRef
    scores: dict[str, list[float]]
    answers: list[str]
    draws: int = 1
    bare: bool = True
    too_long: int = 0
    missing_markers: int | None = None

    def value(self, metric: str) -> Interval:
        """The share or mean of a metric with its 95 % interval."""
        values = self.scores[metric]
        return share_interval(int(sum(values)), len(values)) if is_share(metric, values) else mean_interval(values)

    def gain_over(self, other: "Measured", metric: str) -> Interval:
        """The paired gain of this student over another on the same questions, with its 95 % interval.

        Over itself it is exactly nothing, on these questions and on all others. Two students that only answered alike
        here may differ elsewhere, and get an interval that says so.
        """
        before, after = other.scores[metric], self.scores[metric]
        if self.model == other.model and self.bare and other.bare:
            return Interval(0.0, 0.0, 0.0, len(after))
        return gain(is_share(metric, [*before, *after]), before, after)

    def record_against(self, other: "Measured", metric: str) -> dict[str, int]:
        """On how many questions this student scored higher, the same, lower than another."""
        pairs = list(zip(self.scores[metric], other.scores[metric], strict=True))
        win, loss = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
        return {"win": win, "tie": len(pairs) - win - loss, "loss": loss}


def is_share(metric: str, values: Sequence[float]) -> bool:
    """Whether a metric's values are right or wrong; the mean over several draws is neither."""
    return metric in SHARES and all(value in (0, 1) for value in values)


def mean_of(name: str, draws: Sequence[Measured]) -> Measured:
    """Several measurements of one model on the same questions as one: each question's score is its mean."""
    first = draws[0]
    scores = {
        grader: [fmean(row) for row in zip(*(d.scores[grader] for d in draws), strict=True)] for grader in first.scores
    }
    return Measured(name, first.model, scores, first.answers, len(draws), first.bare, first.too_long)


@dataclass(frozen=True)
class Candidate:
    """What a phase made of the student, and what dev says of it against the one it came from."""

    phase: str
    model: ModelRef
    decision: str
    gain: Interval


def triple(interval: Interval) -> Triple:
    return interval.rounded()
