"""Intervals of rows that belong together cover what they promise; those of independent rows do not."""

from math import sqrt

import numpy as np
import pytest

from shared.evaluation.grouped import group_limits, grouped_gain, grouped_mean, has_groups
from shared.evaluation.statistics import Interval, gain, share_interval

CORRELATION, DRAWS = 0.3, 400


def scores(random: np.random.Generator, share: float, groups: int, each: int) -> list[int]:
    """Right or wrong, with CORRELATION within a group (beta-binomial)."""
    weight = 1 / CORRELATION - 1
    chances = random.beta(share * weight, (1 - share) * weight, groups)
    return [int(value) for value in (random.random((groups, each)) < chances[:, None]).ravel()]


@pytest.mark.parametrize(("groups", "each", "share"), [(12, 5, 0.3), (40, 5, 0.3), (40, 5, 0.9), (20, 2, 0.5)])
def test_a_share_of_grouped_rows_is_covered(groups: int, each: int, share: float):
    random = np.random.default_rng(1)
    names = [row // each for row in range(groups * each)]
    held = grouped = 0
    for _ in range(DRAWS):
        drawn = scores(random, share, groups, each)
        plain, wide = share_interval(sum(drawn), len(drawn)), grouped_mean(True, drawn, names)
        held += plain.low <= share <= plain.high
        grouped += wide.low <= share <= wide.high
        assert wide.low <= plain.low <= plain.high <= wide.high
    assert grouped / DRAWS >= 0.93
    if each == 5:
        assert held / DRAWS < 0.88


@pytest.mark.parametrize(("before", "after"), [(0.3, 0.3), (0.3, 0.4), (0.9, 0.95)])
def test_a_gain_of_grouped_rows_is_covered(before: float, after: float):
    random = np.random.default_rng(2)
    names = [row // 5 for row in range(100)]
    covered = 0
    for _ in range(300):
        interval = grouped_gain(True, scores(random, before, 20, 5), scores(random, after, 20, 5), names)
        covered += interval.low <= after - before <= interval.high
    assert covered / 300 >= 0.93


def spread(random: np.random.Generator, mean: float, groups: int, each: int) -> list[float]:
    """Scores between 0 and 1 whose variance is CORRELATION between groups and the rest within."""
    one, every = (random.beta(2 * mean, 2 * (1 - mean), shape) for shape in ((groups, 1), (groups, each)))
    between = random.random((groups, each)) < sqrt(CORRELATION)
    return np.where(between, one, every).ravel().tolist()


def inside(value: float, interval: Interval) -> bool:
    """Computed only where the groups' own limits do not hold it, which are part of the interval: the rest takes a bootstrap."""
    return interval.low <= value <= interval.high


@pytest.mark.parametrize("mean", [0.5, 0.8])
def test_a_mean_of_grouped_rows_is_covered(mean: float):
    """Two rows of a group have the group's own draw with a chance of CORRELATION, so that is how they correlate."""
    random = np.random.default_rng(3)
    names, draws, held = [row // 5 for row in range(100)], 400, 0
    for _ in range(draws):
        drawn = spread(random, mean, 20, 5)
        low, high = group_limits(np.asarray(drawn), names, 0.0, 1.0)
        held += low <= mean <= high or inside(mean, grouped_mean(False, drawn, names))
    assert held / draws >= 0.93


@pytest.mark.parametrize(("before", "after"), [(0.5, 0.5), (0.6, 0.7)])
def test_a_gain_of_grouped_means_is_covered(before: float, after: float):
    random = np.random.default_rng(4)
    names, draws, held = [row // 5 for row in range(100)], 400, 0
    for _ in range(draws):
        first, second = spread(random, before, 20, 5), spread(random, after, 20, 5)
        start, change = float(np.mean(first)), after - before
        low, high = group_limits(np.subtract(second, first), names, -start, 1 - start)
        held += low <= change <= high or inside(change, grouped_gain(False, first, second, names))
    assert held / draws >= 0.93


def test_rows_by_themselves_have_the_interval_they_had():
    before, after = [0, 1, 0, 1] * 10, [1, 1, 0, 1] * 10
    assert grouped_gain(True, before, after, list(range(40))) == gain(True, before, after)
    assert not has_groups(range(40))
    assert has_groups("abca")


def test_one_group_tells_nothing_of_others():
    interval = grouped_gain(True, [0, 0, 0], [1, 1, 1], ["a", "a", "a"])
    assert interval.low <= 0
    assert interval.high == 1
    assert interval.decision == "undecided"
