"""Intervals and decisions. Pure functions: lists of scores in, intervals out; nothing here draws without a seed.

Shares (scores that are 0 or 1) get score intervals, means of scores in between get the BCa bootstrap. The plain
percentile bootstrap is not used: near the edges it covers far less than it says, with intervals of zero width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Literal, cast

import numpy as np
from scipy.optimize import brentq
from scipy.stats import bootstrap, norm, t

LEVEL = 0.95
RESAMPLES = 4999
SEED = 20241
SPARSE = 20  # with fewer rows off the most frequent value the bootstrap has too little to draw from (it covered 91 %)
CHANGED_ROWS = 0.18  # share of rows a trained student answers differently right or wrong; the default of `power`

Decision = Literal["promoted", "undecided", "rejected"]
Scores = Sequence[bool] | Sequence[int] | Sequence[float]


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided interval, from n rows. With n = 0 the value is 0 and the interval all there is."""

    value: float
    low: float
    high: float
    n: int

    def rounded(self) -> list[float]:
        """[value, low, high], for JSON."""
        return [round(self.value, 6), round(self.low, 6), round(self.high, 6)]


def decide(interval: Interval) -> Decision:
    """promoted: the whole interval of the gain is above zero; rejected: below; undecided: it holds zero."""
    if interval.low > 0:
        return "promoted"
    return "rejected" if interval.high < 0 else "undecided"


def gain(metric_is_share: bool, before: Scores, after: Scores, level: float = LEVEL) -> Interval:
    """The mean gain from `before` to `after`, row by row, by the method that suits the metric."""
    return (paired_share_gain if metric_is_share else paired_mean_gain)(before, after, level)


def share_interval(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval (Wilson 1927, JASA 22:209-212) for a share of n rows."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} rows")
    if n == 0:
        return Interval(0.0, 0.0, 1.0, 0)
    z2 = _z(level) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = sqrt(z2 * share * (1 - share) / n + (z2 / (2 * n)) ** 2) / (1 + z2 / n)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(share, low, high, n)


def paired_share_gain(before: Scores, after: Scores, level: float = LEVEL) -> Interval:
    """Tango's score interval for the difference of two paired proportions.

    T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17 (1998) 891-908. All differences whose score statistic stays within the normal
    quantile belong to it. Without any discordant pair it is +- z^2 / (n + z^2), not zero.
    """
    pairs = _paired(before, after)
    if not np.isin(pairs, (0.0, 1.0)).all():
        raise ValueError("a share takes scores of 0 and 1 only")
    n = pairs.shape[1]
    if n == 0:
        return Interval(0.0, -1.0, 1.0, 0)
    won = int(np.sum(pairs[1] > pairs[0]))
    lost = int(np.sum(pairs[1] < pairs[0]))
    value, z = (won - lost) / n, _z(level)
    edge = 1e-12
    low = -1.0 if lost == n else _root(lambda d: _tango(d, won, lost, n) - z, -1 + edge, min(value, 1 - edge))
    high = 1.0 if won == n else _root(lambda d: _tango(d, won, lost, n) + z, max(value, -1 + edge), 1 - edge)
    return Interval(value, low, high, n)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return cast(float, brentq(function, low, high))


def _tango(difference: float, won: int, lost: int, n: int) -> float:
    """The score statistic at a supposed difference: the lost share takes its constrained likelihood maximum."""
    linear = -won - lost + (2 * n - won + lost) * difference
    constant = -lost * difference * (1 - difference)
    lost_share = (sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * lost_share + difference * (1 - difference))
    distance = won - lost - n * difference
    return distance / sqrt(variance) if variance > 0 else 0.0


def mean_interval(values: Scores, level: float = LEVEL) -> Interval:
    """BCa bootstrap interval for the mean of scores in [0, 1]; see `_mean` for what happens where BCa is undefined."""
    return _mean(np.asarray(values, dtype=float), 0.0, level)


def paired_mean_gain(before: Scores, after: Scores, level: float = LEVEL) -> Interval:
    """BCa bootstrap interval for the mean of the row-wise differences of scores in [0, 1]."""
    pairs = _paired(before, after)
    return _mean(pairs[1] - pairs[0], -1.0, level)


def mean_difference(before: Scores, after: Scores, level: float = LEVEL) -> Interval:
    """Student's interval for the mean row-wise difference of figures without a scale, such as NLL; at least two rows."""
    pairs = _paired(before, after)
    differences = pairs[1] - pairs[0]
    n = len(differences)
    half = float(t.ppf(0.5 + level / 2, n - 1) * differences.std(ddof=1) / sqrt(n))
    value = float(differences.mean())
    return Interval(value, value - half, value + half, n)


def _mean(values: np.ndarray, lowest: float, level: float) -> Interval:
    """The mean of values in [lowest, 1] with its interval (Efron 1987, JASA 82:171-185).

    All values equal: the bootstrap sees no spread. Then up to p = z^2 / (n + z^2) of all rows may be of another kind
    (Wilson's bound for 0 of n), at worst at the ends of the scale; for differences of zero this is Tango's interval.
    Few values off the most frequent one (SPARSE), or BCa undefined: the hull of BCa and Student's interval, cut to
    the scale, because three lucky rows alone must not look like a sure gain.
    """
    n = len(values)
    if n == 0:
        return Interval(0.0, lowest, 1.0, 0)
    if values.min() < lowest or values.max() > 1:
        raise ValueError(f"scores outside the scale: {values.min()} to {values.max()}")
    value = float(values.mean())
    distinct, counts = np.unique(values.round(12), return_counts=True)
    if len(distinct) == 1:
        other = _z(level) ** 2 / (n + _z(level) ** 2)
        return Interval(value, value + other * (lowest - value), value + other * (1 - value), n)
    low, high = _bca(values, level)
    if n - counts.max() < SPARSE or not np.isfinite([low, high]).all():
        half = float(t.ppf(0.5 + level / 2, n - 1) * values.std(ddof=1) / sqrt(n))
        low, high = np.nanmin([low, value - half]), np.nanmax([high, value + half])
    return Interval(value, max(lowest, float(low)), min(1.0, float(high)), n)


def _bca(values: np.ndarray, level: float) -> tuple[float, float]:
    with np.errstate(divide="ignore", invalid="ignore"):
        interval = bootstrap(
            (values,),
            np.mean,
            n_resamples=RESAMPLES,
            batch=max(1, 2_000_000 // len(values)),  # at most 16 MB at once
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(SEED),
        ).confidence_interval
    return float(interval.low), float(interval.high)


def power(n: int, gain: float = 0.05, spread: float | None = None, level: float = LEVEL) -> float:
    """The chance that a true mean gain is seen, that is, that the interval's lower end comes out above zero.

    spread: standard deviation of one row's gain, measured where there is a measurement; by default that of a share
    with CHANGED_ROWS. Normal approximation.
    """
    if n <= 0:
        return 0.0
    spread = sqrt(max(CHANGED_ROWS, abs(gain)) - gain**2) if spread is None else spread
    if spread == 0:
        return float(gain > 0)
    return float(norm.cdf(gain * sqrt(n) / spread - _z(level)))


def questions_needed(spread: float, gain: float = 0.05, chance: float = 0.8, level: float = LEVEL) -> int:
    """How many rows show a true mean gain with this chance; the inverse of `power`. spread as there."""
    return max(1, ceil(((_z(level) + float(norm.ppf(chance))) * spread / gain) ** 2))


def _paired(before: Scores, after: Scores) -> np.ndarray:
    """Both as one array of shape (2, n)."""
    if len(before) != len(after):
        raise ValueError(f"{len(before)} rows before and {len(after)} after do not pair")
    return np.asarray([before, after], dtype=float).reshape(2, -1)


def _z(level: float) -> float:
    return float(norm.ppf(0.5 + level / 2))
