"""What a measurement and a decision are."""

from dataclasses import dataclass

from shared.contracts.jobs import SHARES
from shared.contracts.steps import ModelRef
from shared.statistics import Interval, gain, mean_interval, share_interval


@dataclass(frozen=True)
class Measured:
    """One student on one split. scores: per grader one value in [0, 1] per question, in the split's order."""

    name: str
    model: ModelRef
    scores: dict[str, list[float]]
    answers: list[str]

    def value(self, metric: str) -> Interval:
        """The share or mean of a metric with its 95 % interval."""
        values = self.scores[metric]
        return share_interval(int(sum(values)), len(values)) if metric in SHARES else mean_interval(values)

    def gain_over(self, other: "Measured", metric: str) -> Interval:
        """The paired gain of this student over another on the same questions, with its 95 % interval."""
        return gain(metric in SHARES, other.scores[metric], self.scores[metric])


@dataclass(frozen=True)
class Candidate:
    """What a phase made of the student, and what dev says of it against the one it came from."""

    phase: str
    model: ModelRef
    decision: str
    gain: Interval


def triple(interval: Interval) -> list[float]:
    """[value, low, high], for JSON."""
    return interval.rounded()
