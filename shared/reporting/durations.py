"""Times for people: seconds as words, and the time that a job has left as a range."""

from shared.contracts.estimate import Range
from shared.contracts.jobs import JobProgress

NEAR = 1.25  # ends of a range that are nearer than this are told as one


def in_words(seconds: float) -> str:
    """Such as 40 s, 2 min 36 s, 25 min, 3 h 10 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 10:
        return f"{minutes} min {rest:02d} s" if rest else f"{minutes} min"
    if minutes < 100:
        return f"{round(seconds / 60)} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if minutes else f"{hours} h"


def range_in_words(span: Range) -> str:
    """Such as 2 min to 4 min 30 s; one time where both ends are near."""
    if span.high <= span.low * NEAR or span.high < 10:
        return f"about {in_words((span.low + span.high) / 2)}"
    return f"{in_words(span.low)} to {in_words(span.high)}"


def time_left(progress: JobProgress) -> str:
    """Such as 2 min to 4 min left."""
    if progress.eta_seconds is None:
        return "no estimate yet"
    low, high = progress.eta_low_seconds, progress.eta_high_seconds
    if low is None or high is None:
        return f"about {in_words(progress.eta_seconds)} left"
    return f"{range_in_words(Range(low=low, high=high))} left"
