"""Confidence intervals and decisions. Pure functions over lists of scores; all draws are seeded.

Shares (scores of 0 or 1) get score intervals, means of other scores the BCa bootstrap, both widened where their coverage is too low
(docs/adr/0015-intervals.md). The percentile bootstrap is not used: near the ends of the scale its coverage is far too low.
`python -m tests.bench.coverage` measures the coverage.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import cast

import numpy as np
from scipy.special import betaincinv, ndtr, ndtri, stdtrit  # what scipy.stats calls, without a second to load it

from shared.contracts.report_part import Decision, Triple
from shared.evaluation.bootstrap import bca

LEVEL = 0.95
HELD_SHARES, HELD_MEANS = 30, 8  # rows from which the intervals covered at least 93 % everywhere in the bench
UNSEEN = 0.5  # rows that are added at each end of the scale
CHANGED_ROWS = 0.18  # share of rows whose correctness training changes; the default of `power`

Scores = Sequence[bool] | Sequence[int] | Sequence[float]


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided interval from n rows. With n = 0 the value is 0 and the interval the whole scale."""

    value: float
    low: float
    high: float
    n: int

    def rounded(self) -> Triple:
        return Triple(round(self.value, 6), round(self.low, 6), round(self.high, 6))

    @property
    def decision(self) -> Decision:
        """Of a gain. promoted: the whole interval is above zero; rejected: below; undecided: it contains zero."""
        if self.low > 0:
            return "promoted"
        return "rejected" if self.high < 0 else "undecided"


def gain(metric_is_share: bool, before: Scores, after: Scores, level: float = LEVEL) -> Interval:
    """The mean row-wise gain from `before` to `after` with the metric's kind of interval."""
    return (paired_share_gain if metric_is_share else paired_mean_gain)(before, after, level)


def share_interval(successes: int, n: int, level: float = LEVEL) -> Interval:
    """The hull of Wilson's and Jeffreys' intervals for a share of n rows.

    Each alone covers as little as 92 % at some shares near 0 and 1; together they cover at least 93 % from 30 rows on and are 2 %
    wider than Wilson's interval.
    """
    if successes == n == 0:
        return Interval(0.0, 0.0, 1.0, 0)
    low, high = wilson(successes, n, level)
    if successes > 0:
        low = min(low, float(betaincinv(successes + 0.5, n - successes + 0.5, (1 - level) / 2)))
    if successes < n:
        high = max(high, float(betaincinv(successes + 0.5, n - successes + 0.5, (1 + level) / 2)))
    return Interval(successes / n, low, high, n)


def wilson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score limits (Wilson 1927, JASA 22:209-212); n is at least 1."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} rows")
    z2 = _z(level) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = sqrt(z2 * share * (1 - share) / n + (z2 / (2 * n)) ** 2) / (1 + z2 / n)
    return 0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half


def paired_share_gain(before: Scores, after: Scores, level: float = LEVEL) -> Interval:
    """Tango's score interval for the difference of two paired proportions.

    T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17 (1998) 891-908. It contains the differences whose score statistic is within the normal
    quantile. Without discordant pairs it is +- z^2 / (n + z^2).
    """
    pairs = _paired(before, after)
    if not np.isin(pairs, (0.0, 1.0)).all():
        raise ValueError("a share takes scores of 0 and 1 only")
    n = pairs.shape[1]
    if n == 0:
        return Interval(0.0, -1.0, 1.0, 0)
    won, lost = np.sum(pairs[1] > pairs[0]), np.sum(pairs[1] < pairs[0])
    value, z = float(won - lost) / n, _z(level)
    edge = 1e-12
    low = -1.0 if lost == n else _root(lambda d: float(_tango(d, won, lost, n)) - z, -1 + edge, min(value, 1 - edge))
    high = 1.0 if won == n else _root(lambda d: float(_tango(d, won, lost, n)) + z, max(value, -1 + edge), 1 - edge)
    return Interval(value, low, high, n)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq  # imported here: it takes half a second

    return cast(float, brentq(function, low, high))


def tango_holds(difference: float, won: np.ndarray, lost: np.ndarray, n: int, level: float = LEVEL) -> np.ndarray:
    """Whether Tango's interval contains this difference, per table of won and lost rows."""
    return np.abs(_tango(difference, won, lost, n)) <= _z(level)


def _tango(difference: float, won: np.ndarray, lost: np.ndarray, n: int) -> np.ndarray:
    """The score statistic at a difference, with the constrained maximum likelihood estimate of the lost share."""
    linear = -won - lost + (2 * n - won + lost) * difference
    constant = -lost * difference * (1 - difference)
    lost_share = (np.sqrt(np.maximum(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * lost_share + difference * (1 - difference))
    distance = won - lost - n * difference
    return np.where(variance > 0, distance / np.sqrt(np.where(variance > 0, variance, 1.0)), 0.0)


def mean_interval(values: Scores, level: float = LEVEL) -> Interval:
    """The mean of scores in [0, 1] with its interval; see `mean_limits`."""
    scores = _on_scale(np.asarray(values, dtype=float))
    if len(scores) == 0:
        return Interval(0.0, 0.0, 1.0, 0)
    low, high = mean_limits(scores[None], np.zeros(1), np.ones(1), level)
    return Interval(float(scores.mean()), max(0.0, float(low[0])), min(1.0, float(high[0])), len(scores))


def paired_mean_gain(before: Scores, after: Scores, level: float = LEVEL) -> Interval:
    """The mean of the row-wise differences of scores in [0, 1] with its interval; see `mean_limits`.

    The scale reaches from -mean(before) (all rows fall to 0) to 1 - mean(before) (all rise to 1). If all rows changed by the same
    amount other than 0 it is [-1, 1].
    """
    pairs = _on_scale(_paired(before, after))
    if pairs.shape[1] == 0:
        return Interval(0.0, -1.0, 1.0, 0)
    gains, start = (pairs[1] - pairs[0]).round(12), pairs[0].mean(keepdims=True)
    ends = (-start, 1 - start) if np.ptp(gains) or not gains.any() else (-np.ones(1), np.ones(1))
    low, high = mean_limits(gains[None], *ends, level)
    return Interval(float(gains.mean()), max(-1.0, float(low[0])), min(1.0, float(high[0])), len(gains))


def mean_difference(before: Scores, after: Scores, level: float = LEVEL) -> Interval:
    """Student's interval for the mean row-wise difference of unbounded values such as NLL; at least two rows."""
    pairs = _paired(before, after)
    differences = pairs[1] - pairs[0]
    n = len(differences)
    half = float(stdtrit(n - 1, 0.5 + level / 2) * differences.std(ddof=1) / sqrt(n))
    value = float(differences.mean())
    return Interval(value, value - half, value + half, n)


def mean_limits(
    samples: np.ndarray, lowest: np.ndarray, highest: np.ndarray, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Limits of the mean of each sample. samples: (k, n), n at least 1; lowest, highest: (k), bounds of the mean.

    The hull of BCa, Student's interval, and Student's interval with half a row added at each end of the scale, which accounts for
    values that a small or skewed sample misses. Of a sample of equal values a share of up to z^2 / (n + z^2) of all rows (Wilson's
    bound for 0 of n) may lie at an end of the scale.
    """
    n, value = samples.shape[1], samples.mean(axis=1)
    other = _z(level) ** 2 / (n + _z(level) ** 2)
    flat = np.ptp(samples.round(12), axis=1) == 0
    low, high = value + other * (lowest - value), value + other * (highest - value)
    if n > 1:
        methods = [bca(samples, level), student(samples, level), with_unseen(samples, lowest, highest, level)]
        low = np.where(flat, low, np.fmin.reduce([limits[0] for limits in methods]))
        high = np.where(flat, high, np.fmax.reduce([limits[1] for limits in methods]))
    return low, high


def student(samples: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Student's limits of the mean of each sample."""
    n, value = samples.shape[1], samples.mean(axis=1)
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * samples.std(axis=1, ddof=1) / sqrt(n)
    return value - half, value + half


def with_unseen(
    samples: np.ndarray, lowest: np.ndarray, highest: np.ndarray, level: float, unseen: float = UNSEEN
) -> tuple[np.ndarray, np.ndarray]:
    """Student's limits with `unseen` rows added at each end of the scale."""
    n = samples.shape[1]
    rows = n + 2 * unseen
    value = (samples.sum(axis=1) + unseen * (lowest + highest)) / rows
    square = ((samples**2).sum(axis=1) + unseen * (lowest**2 + highest**2)) / rows
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * np.sqrt((square - value**2) / rows)
    return value - half, value + half


def caution(metric_is_share: bool, n: int) -> str | None:
    """A warning about the 95 % interval of so many rows, None if its coverage was measured to be sufficient."""
    least = HELD_SHARES if metric_is_share else HELD_MEANS
    if n >= least:
        return None
    kind = "share" if metric_is_share else "mean"
    return f"with {n} rows the 95 % interval of a {kind} may cover less than 93 %; from {least} rows on its coverage was measured to be sufficient"


def power(n: int, gain: float = 0.05, spread: float | None = None, level: float = LEVEL) -> float:
    """The probability that the interval of a true mean gain lies above zero, by normal approximation.

    spread: standard deviation of one row's gain, by default that of a share with CHANGED_ROWS.
    """
    if n <= 0:
        return 0.0
    spread = sqrt(max(CHANGED_ROWS, abs(gain)) - gain**2) if spread is None else spread
    if spread == 0:
        return float(gain > 0)
    return float(ndtr(gain * sqrt(n) / spread - _z(level)))


def questions_needed(spread: float, gain: float = 0.05, chance: float = 0.8, level: float = LEVEL) -> int:
    """The number of rows at which `power` reaches `chance`."""
    return max(1, ceil(((_z(level) + float(ndtri(chance))) * spread / gain) ** 2))


def _paired(before: Scores, after: Scores) -> np.ndarray:
    """Both as one array of shape (2, n)."""
    if len(before) != len(after):
        raise ValueError(f"{len(before)} rows before and {len(after)} after do not pair")
    return np.asarray([before, after], dtype=float).reshape(2, -1)


def _on_scale(scores: np.ndarray) -> np.ndarray:
    if scores.size and not (scores.min() >= 0 and scores.max() <= 1):  # `not` also refuses NaN
        raise ValueError(f"scores outside the scale: {scores.min()} to {scores.max()}")
    return scores


def _z(level: float) -> float:
    return float(ndtri(0.5 + level / 2))
