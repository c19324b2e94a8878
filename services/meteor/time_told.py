"""The demo's measure of a job's estimates: the time left that the job announced, compared with the time that it took."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.contracts.jobs import JobObject, JobProgress
from shared.reporting.durations import in_words


@dataclass
class TimeTold:
    """Call it with the job at each look, and `end` once it is over. clock: seconds."""

    clock: Callable[[], float] = time.monotonic
    statements: list[tuple[float, float]] = field(default_factory=list)  # (when, seconds left)
    ended: float | None = None

    def __call__(self, job: JobObject) -> None:
        self.note(job.distillation.progress)

    def note(self, progress: JobProgress) -> None:
        if progress.eta_seconds:
            self.statements.append((self.clock(), progress.eta_seconds))

    def end(self) -> None:
        self.ended = self.clock()

    def figures(self) -> dict[str, float] | None:
        """first_seconds: the first statement; true_seconds: what was left then; ratio: of the two. largest_rise: how much later
        statements were above the lowest one before them, as a share of it (0.1: a tenth); None where nothing was said."""
        if not self.statements or self.ended is None:
            return None
        at, first = self.statements[0]
        truth = max(self.ended - at, 1.0)
        lowest, rise = first, 0.0
        for _, left in self.statements:
            rise = max(rise, left / lowest - 1)
            lowest = min(lowest, left)
        return {
            "first_seconds": round(first, 1),
            "true_seconds": round(truth, 1),
            "ratio": round(first / truth, 3),
            "largest_rise": round(rise, 3),
        }


def in_a_line(figures: dict[str, float]) -> str:
    """Such as: Time left: 7 min were told first, 8 min it was (0.88 of it); it rose by 4% at most."""
    first, truth = in_words(figures["first_seconds"]), in_words(figures["true_seconds"])
    rose = f"it rose by {figures['largest_rise']:.0%} at most" if figures["largest_rise"] else "it never rose"
    return f"Time left: the first statement was {first}, the truth {truth} ({figures['ratio']:.2f} of it); {rose}."
