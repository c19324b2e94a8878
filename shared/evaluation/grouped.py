"""Intervals where rows belong together: questions on one passage, turns of one conversation, paraphrases of one query.

Rows of a group are right or wrong together, so they tell less than as many rows by themselves. With five questions a passage and
an intra-class correlation of 0.3 an interval of 95 % that takes the rows for independent covers 81 %.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from math import sqrt

import numpy as np
from scipy.special import stdtrit

from shared.evaluation.statistics import LEVEL, UNSEEN, Interval, Scores, gain, mean_interval, share_interval


def grouped_gain(
    metric_is_share: bool, before: Scores, after: Scores, groups: Sequence[Hashable], level: float = LEVEL
) -> Interval:
    """`gain` with rows that belong together. groups: one name per row.

    The hull of the interval for independent rows and that of the groups, so groups never make it narrower.
    """
    interval = gain(metric_is_share, before, after, level)
    if not has_groups(groups) or len(before) != len(groups):
        return interval
    first, second = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    low, high = group_limits(second - first, groups, -first.mean(), 1 - first.mean(), level)
    return _hull(interval, max(-1.0, low), min(1.0, high))


def grouped_mean(metric_is_share: bool, scores: Scores, groups: Sequence[Hashable], level: float = LEVEL) -> Interval:
    """`share_interval` or `mean_interval` with rows that belong together."""
    values = np.asarray(scores, dtype=float)
    interval = (
        share_interval(int(values.sum()), len(values), level) if metric_is_share else mean_interval(scores, level)
    )
    if not has_groups(groups) or len(values) != len(groups):
        return interval
    low, high = group_limits(values, groups, 0.0, 1.0, level)
    return _hull(interval, max(0.0, low), min(1.0, high))


def has_groups(groups: Sequence[Hashable]) -> bool:
    """Whether any two rows belong together."""
    return len(set(groups)) < len(groups)


def group_limits(
    values: np.ndarray, groups: Sequence[Hashable], lowest: float, highest: float, level: float = LEVEL
) -> tuple[float, float]:
    """Limits of the mean of values: Student's, with the variance between groups (the linearised ratio estimator of survey
    sampling: Cochran 1977, "Sampling Techniques", section 9A), by itself and with half a group of mean size added at each end of
    the scale. One group alone tells nothing of the others: its limits are the ends.
    """
    places = {name: place for place, name in enumerate(Counter(groups))}
    owner = np.asarray([places[name] for name in groups])
    sums, sizes = np.bincount(owner, weights=values), np.bincount(owner).astype(float)
    if len(sums) < 2:
        return lowest, highest
    quantile = float(stdtrit(len(sums) - 1, 0.5 + level / 2))
    plain = _limits(sums, sizes, np.ones(len(sums)), quantile)
    mean_size = sizes.mean()
    wide = _limits(
        np.append(sums, [lowest * mean_size, highest * mean_size]),
        np.append(sizes, [mean_size, mean_size]),
        np.append(np.ones(len(sums)), [UNSEEN, UNSEEN]),
        quantile,
    )
    return min(plain[0], wide[0]), max(plain[1], wide[1])


def _limits(sums: np.ndarray, sizes: np.ndarray, weights: np.ndarray, quantile: float) -> tuple[float, float]:
    rows, count = float((weights * sizes).sum()), float(weights.sum())
    mean = float((weights * sums).sum()) / rows
    variance = count / (count - 1) * float((weights * (sums - mean * sizes) ** 2).sum()) / rows**2
    half = quantile * sqrt(variance)
    return mean - half, mean + half


def _hull(interval: Interval, low: float, high: float) -> Interval:
    return Interval(interval.value, min(interval.low, low), max(interval.high, high), interval.n)
