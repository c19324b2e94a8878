"""Intervals: against published figures, by simulated coverage, and at the edges where the usual ones break."""

import numpy as np
import pytest
from scipy.stats import bootstrap, multinomial

from shared.evaluation.bootstrap import RESAMPLES, SEED, bca
from shared.evaluation.statistics import (
    Interval,
    caution,
    gain,
    mean_interval,
    mean_limits,
    paired_mean_gain,
    paired_share_gain,
    power,
    questions_needed,
    share_interval,
    tango_holds,
    wilson,
)
from tests.bench import coverage


def pairs(won: int, lost: int, n: int) -> tuple[list[int], list[int]]:
    same = n - won - lost
    return [0] * won + [1] * lost + [1] * same, [1] * won + [0] * lost + [1] * same


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_limits(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)
    interval = share_interval(successes, n)
    assert interval.value == pytest.approx(successes / n)
    assert low - 0.004 < interval.low < low + 5e-5
    assert high - 5e-5 < interval.high < high + 0.004


@pytest.mark.parametrize(
    ("won", "lost", "n", "level", "low", "high"),
    [
        (1, 7, 21, 0.95, -0.517, -0.026),  # Bentur 2009, in Fagerland, Lydersen, Laake 2014, Stat Med 33:2850-2875
        (
            6,
            16,
            161,
            0.95,
            -0.124,
            -0.0054,
        ),  # Cavo 2012, in the same authors' "Statistical Analysis of Contingency Tables"
        (0, 1, 44, 0.90, -0.096, 0.037),  # contact lenses, Tango 1998, section 5
    ],
)
def test_tango_gives_the_published_limits(won, lost, n, level, low, high):
    interval = paired_share_gain(*pairs(won, lost, n), level)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=7e-4)


def test_tango_without_discordant_pairs_is_not_of_zero_width():
    interval = paired_share_gain([True] * 40 + [False] * 20, [True] * 40 + [False] * 20)
    z2 = 1.959964**2
    assert interval.high == pytest.approx(z2 / (60 + z2), abs=1e-6)
    assert interval.low == pytest.approx(-interval.high)


def test_tango_for_every_small_table():
    for n in (1, 2, 5, 12):
        for won in range(n + 1):
            for lost in range(n - won + 1):
                forth = paired_share_gain(*pairs(won, lost, n))
                back = paired_share_gain(*pairs(lost, won, n))
                assert -1 <= forth.low <= forth.value <= forth.high <= 1
                assert forth.high - forth.low > 0.1
                assert forth.low == pytest.approx(-back.high, abs=1e-9)


@pytest.mark.parametrize(
    ("n", "p"), [(30, 0.3), (30, 0.7), (60, 0.05), (100, 0.01), (100, 0.99), (100, 0.5), (42, 0.01), (200, 0.02)]
)
def test_shares_hold_where_wilsons_or_jeffreys_interval_alone_does_not(n: int, p: float):
    """Exact, summed over all outcomes. Wilson alone covers 92.1 % at n = 100, p = 0.01, Jeffreys 92.4 % at n = 60, p = 0.05."""
    assert coverage.share(n, p) >= 0.93


@pytest.mark.parametrize("n", [30, 60, 100])
@pytest.mark.parametrize(("p", "gain"), [(0.01, 0.0), (0.05, 0.1), (0.3, 0.05), (0.5, 0.05), (0.95, 0.0), (0.9, 0.05)])
def test_gains_of_shares_hold(n: int, p: float, gain: float):
    assert coverage.share_gain(n, p, gain) >= 0.93


def test_the_tables_that_the_bench_counts_are_those_whose_interval_holds_the_gain():
    n, gain = 12, 0.07
    for won in range(n + 1):
        for lost in range(n - won + 1):
            interval = paired_share_gain(*pairs(won, lost, n))
            assert tango_holds(gain, np.array([won]), np.array([lost]), n)[0] == (interval.low <= gain <= interval.high)


def outcomes(n: int, values: tuple[float, float, float], chances: tuple[float, float, float]):
    """Every sample of n rows of three values, rows in ascending places, and how likely each is."""
    counts = [(a, b, n - a - b) for a in range(n + 1) for b in range(n - a + 1)]
    return np.array([np.repeat(values, each) for each in counts]), multinomial.pmf(counts, n, chances)


@pytest.mark.parametrize("n", [30, 60])
@pytest.mark.parametrize("chances", [(0.98, 0.01, 0.01), (0.9, 0.08, 0.02), (0.02, 0.08, 0.9), (0.4, 0.3, 0.3)])
def test_means_of_scores_hold(n: int, chances: tuple[float, float, float]):
    """Exact, for scores of 0, 0.4 and 1. With 30 rows Student's interval alone covers 84 % in the second and third cell."""
    samples, likely = outcomes(n, (0.0, 0.4, 1.0), chances)
    low, high = mean_limits(samples, np.zeros(len(samples)), np.ones(len(samples)))
    truth = 0.4 * chances[1] + chances[2]
    assert likely[(low <= truth) & (truth <= high)].sum() >= 0.93


@pytest.mark.parametrize("chances", [(0.01, 0.97, 0.02), (0.05, 0.9, 0.05), (0.0, 0.9, 0.1), (0.2, 0.4, 0.4)])
def test_gains_of_means_hold(chances: tuple[float, float, float]):
    """Exact, for rows of 0.4 that lose 0.2, stay, or gain 0.5. BCa alone covers 73 % in the second cell."""
    samples, likely = outcomes(30, (-0.2, 0.0, 0.5), chances)
    ends = np.full(len(samples), 0.4)
    low, high = mean_limits(samples, -ends, 1 - ends)
    truth = 0.5 * chances[2] - 0.2 * chances[0]
    assert likely[(low <= truth) & (truth <= high)].sum() >= 0.93


@pytest.mark.parametrize("n", [30, 200])
def test_bca_is_scipys(n: int):
    random = np.random.default_rng(3)
    samples = np.stack([random.beta(0.5, 4, n), random.integers(0, 2, n), random.integers(0, 5, n) / 4])
    low, high = bca(samples, 0.95)
    for place, sample in enumerate(samples):
        interval = bootstrap(
            (sample,), np.mean, n_resamples=RESAMPLES, rng=np.random.default_rng(SEED)
        ).confidence_interval
        assert (low[place], high[place]) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_few_rows_are_warned_of():
    assert coverage.share(16, 0.5) < 0.93 <= min(coverage.share(30, p) for p in coverage.SHARES)
    assert (caution(True, 30), caution(False, 8)) == (None, None)
    assert "16 rows" in (caution(True, 16) or "")
    assert "mean" in (caution(False, 7) or "")


def test_bca_covers_a_skewed_mean_and_leans_to_the_long_tail():
    random = np.random.default_rng(5)
    samples = random.beta(0.5, 4, (100, 60))
    intervals = [mean_interval(sample.tolist()) for sample in samples]
    assert sum(i.low <= 0.5 / 4.5 <= i.high for i in intervals) / len(intervals) >= 0.9
    assert np.mean([i.high - i.value for i in intervals]) > 1.1 * np.mean([i.value - i.low for i in intervals])


def test_bca_is_the_same_each_time():
    values = np.random.default_rng(1).random(50).tolist()
    assert mean_interval(values) == mean_interval(values)


def test_equal_values_still_leave_doubt():
    flat = mean_interval([0.4] * 60)
    assert flat.low < 0.4 < flat.high
    still = paired_mean_gain([0.4] * 60, [0.4] * 60)
    other = paired_share_gain([1] * 60, [1] * 60).high  # so many rows may be of another kind
    assert (still.low, still.high) == pytest.approx((-0.4 * other, 0.6 * other))
    lost = paired_mean_gain([0.4, 0.2] * 20, [0.0] * 40)
    assert lost.low < lost.value == pytest.approx(-0.3)
    assert mean_interval([0.0] * 20).high == pytest.approx(share_interval(0, 20).high)


def test_few_changed_rows_do_not_make_a_sure_gain():
    before = [0.2] * 60
    for changed, verdict in ((1, "undecided"), (3, "undecided"), (12, "promoted")):
        after = [0.5] * changed + [0.2] * (60 - changed)
        assert paired_mean_gain(before, after).decision == verdict


def test_nothing_measured_decides_nothing():
    for empty in (share_interval(0, 0), paired_share_gain([], []), mean_interval([]), paired_mean_gain([], [])):
        assert empty.n == 0
        assert empty.high - empty.low >= 1
    assert paired_share_gain([], []).decision == "undecided"
    assert paired_share_gain([0], [1]).decision == "undecided"
    assert paired_mean_gain([0.0], [1.0]).decision == "undecided"
    assert mean_interval([0.3]).high - mean_interval([0.3]).low > 0.5


def test_gain_takes_the_interval_of_the_metric():
    before, after = pairs(9, 2, 60)
    assert gain(True, before, after) == paired_share_gain(before, after)
    assert gain(False, before, after) == paired_mean_gain(before, after)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="do not pair"):
        paired_share_gain([1, 0], [1])
    with pytest.raises(ValueError, match="0 and 1 only"):
        paired_share_gain([0.5], [1.0])
    with pytest.raises(ValueError, match="outside the scale"):
        mean_interval([0.5, 1.5])
    with pytest.raises(ValueError, match="3 successes"):
        share_interval(3, 2)


def test_decisions_have_names():
    assert Interval(0.1, 0.01, 0.2, 60).decision == "promoted"
    assert Interval(0.1, 0.0, 0.2, 60).decision == "undecided"
    assert Interval(-0.1, -0.2, -0.01, 60).decision == "rejected"


def test_power_grows_with_the_rows():
    assert [power(n) for n in (60, 200, 500)] == pytest.approx([0.15, 0.39, 0.76], abs=0.01)
    assert power(0) == 0
    assert power(60, spread=0.1) > 0.95
    assert power(60, gain=0.0) == pytest.approx(0.025)


def test_power_is_what_simulated_decisions_show():
    """Rows change with probability 0.18, 5 points more for the better than for the worse; n = 200."""
    random = np.random.default_rng(3)
    known: dict[tuple[int, int], str] = {}
    seen = 0
    for won, lost, _ in random.multinomial(200, [0.115, 0.065, 0.82], size=2000).tolist():
        if (won, lost) not in known:
            known[won, lost] = paired_share_gain(*pairs(won, lost, 200)).decision
        seen += known[won, lost] == "promoted"
    assert seen / 2000 == pytest.approx(power(200), abs=0.05)


@pytest.mark.parametrize("spread", [0.1, 0.42, 1.0])
def test_the_questions_needed_are_those_with_which_a_gain_is_seen(spread):
    n = questions_needed(spread)
    assert power(n, spread=spread) >= 0.8
    assert power(n - 1, spread=spread) < 0.8
