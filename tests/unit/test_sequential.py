"""Evidence that may be looked at at any time: how often it errs, what it finds, and its limits by hand."""

from itertools import pairwise
from math import log

import numpy as np
import pytest

from shared.evaluation.sequential import (
    Arms,
    difference_limits,
    evidence_worse,
    evidence_worse_pairs,
    pair_limits,
)
from tests.bench.canaries import ALPHA, HARM, HARM_TO_USERS, NO_HARM, NO_HARM_TO_USERS, World, simulate

NEEDED = log(1 / ALPHA)


@pytest.mark.parametrize("name", NO_HARM)
def test_of_a_thousand_canaries_without_a_difference_at_most_a_twentieth_return(name: str):
    assert simulate(NO_HARM[name], every=100).returned <= ALPHA


@pytest.mark.parametrize("name", NO_HARM_TO_USERS)
def test_users_whose_answers_end_alike_count_once_and_return_no_more_often(name: str):
    assert simulate(NO_HARM_TO_USERS[name], runs=300, every=500).returned <= ALPHA


def test_counted_by_answers_the_same_users_return_too_often():
    assert simulate(NO_HARM_TO_USERS["whose losses are all or none"], 100, every=500, per="answer").returned > 2 * ALPHA


def test_a_harm_to_users_is_found():
    assert simulate(HARM_TO_USERS["5 to 25 % for users"], runs=100, every=500).returned >= 0.95


def test_a_loss_that_is_larger_by_just_the_margin_is_no_harm():
    assert simulate(World(0.05, 0.1), every=100, margin=0.05).returned <= ALPHA
    assert simulate(World(0.05, 0.1), every=100).returned > 4 * ALPHA, "without the margin it is found far more often"


@pytest.mark.parametrize(("name", "least"), [("2 to 12 %", 0.99), ("10 to 20 %", 0.85), ("20 to 30 %", 0.5)])
def test_a_harm_of_ten_points_is_found(name: str, least: float):
    """Within 1,000 requests in each of the steps of 5, 25 and 50 percent."""
    assert simulate(HARM[name], every=50).returned >= least


def test_a_version_that_fails_always_returns_within_a_few_answers():
    result = simulate(HARM["2 to 100 %"], runs=200, every=1)
    assert result.returned == 1
    assert result.median is not None
    assert result.median <= 5


def test_averaging_over_steps_with_other_shares_and_another_load_is_no_harm():
    """Pooled, the canary has 31 % losses and the served version 14 %; within each step both have the same."""
    arms = Arms.of([950, 500], [95, 150], [50, 500], [5, 150])
    pooled = arms.summed()
    assert float(evidence_worse(arms)) < 0
    assert float(evidence_worse(pooled)) > NEEDED


def paired(random: np.random.Generator, runs: int, n: int, worse: float, better: float) -> tuple[np.ndarray, ...]:
    """Sums of the differences above and below zero after each pair; the size of each is drawn as well."""
    drawn, size = random.random((runs, n)), random.random((runs, n))
    up, down = drawn < worse, (drawn >= worse) & (drawn < worse + better)
    return (up * size).cumsum(axis=1), (down * size).cumsum(axis=1)


@pytest.mark.parametrize(
    ("worse", "better", "margin"), [(0.2, 0.2, 0.0), (0.02, 0.02, 0.0), (0.5, 0.5, 0.0), (0.3, 0.1, 0.1)]
)
def test_pairs_without_harm_return_seldom(worse: float, better: float, margin: float):
    random = np.random.default_rng(5)
    up, down = paired(random, 1000, 500, worse, better)
    count = np.arange(1, 501)[None]
    evidence = np.stack([evidence_worse_pairs(count, u, d, margin)[0] for u, d in zip(up, down, strict=True)])
    assert (evidence.max(axis=1) >= NEEDED).mean() <= ALPHA


def test_pairs_with_harm_are_found():
    up, down = paired(np.random.default_rng(6), 200, 500, 0.3, 0.1)
    evidence = evidence_worse_pairs(500, up[:, -1], down[:, -1])
    assert (evidence >= NEEDED).mean() > 0.95


def test_no_data_and_one_arm_alone_are_no_evidence():
    assert float(evidence_worse(Arms.of(0, 0, 0, 0))) <= 0
    assert float(evidence_worse(Arms.of(0, 0, 500, 500))) <= 0
    assert float(evidence_worse_pairs(0, 0, 0)) <= 1e-9


def test_the_evidence_falls_as_the_margin_grows():
    arms = Arms.of([1000, 300], [20, 6], [100, 300], [30, 70])
    values = [float(evidence_worse(arms, margin)) for margin in np.linspace(-0.5, 0.9, 29)]
    assert all(earlier >= later - 1e-6 for earlier, later in pairwise(values))
    assert np.isfinite(values).all()


@pytest.mark.parametrize("counts", [(1000, 0, 100, 0), (1000, 1000, 100, 100), (10, 0, 10, 10), (10, 10, 10, 0)])
@pytest.mark.parametrize("margin", [-0.9, -0.1, 0.0, 0.1, 0.9])
def test_edges_are_numbers(counts: tuple[float, ...], margin: float):
    assert np.isfinite(float(evidence_worse(Arms.of(*counts), margin)))


def test_the_limits_hold_the_difference_and_narrow():
    wide = difference_limits(Arms.of(200, 20, 200, 40), 0.05)
    narrow = difference_limits(Arms.of(20_000, 2_000, 20_000, 4_000), 0.05)
    assert wide[0] < narrow[0] < 0.1 < narrow[1] < wide[1]
    low, high = pair_limits(10_000, 3_000, 1_000, 0.05)
    assert low < 0.2 < high
    assert high - low < 0.1
    assert pair_limits(0, 0, 0, 0.05) == pytest.approx((-1, 1))


def test_the_limits_cover_at_all_times_together():
    random, n = np.random.default_rng(7), 400
    first, second = (random.random((60, n)) < share for share in (0.1, 0.3))
    missed = 0
    for mine, other in zip(first.cumsum(axis=1), second.cumsum(axis=1), strict=True):
        limits = [difference_limits(Arms.of(at, mine[at - 1], at, other[at - 1]), 0.05) for at in (20, 60, 150, n)]
        missed += not all(low <= 0.2 <= high for low, high in limits)
    assert missed / 60 <= 0.05
