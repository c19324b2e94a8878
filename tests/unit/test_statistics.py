"""Intervals: against published figures, by simulated coverage, and at the edges where the usual ones break."""

import numpy as np
import pytest

from shared.statistics import (
    Interval,
    decide,
    gain,
    mean_interval,
    paired_mean_gain,
    paired_share_gain,
    power,
    questions_needed,
    share_interval,
)


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
    found = share_interval(successes, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.value == pytest.approx(successes / n)


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
    found = paired_share_gain(*pairs(won, lost, n), level)
    assert (found.low, found.high) == pytest.approx((low, high), abs=7e-4)


def test_tango_without_discordant_pairs_is_not_of_zero_width():
    found = paired_share_gain([True] * 40 + [False] * 20, [True] * 40 + [False] * 20)
    z2 = 1.959964**2
    assert found.high == pytest.approx(z2 / (60 + z2), abs=1e-6)
    assert found.low == pytest.approx(-found.high)


def test_tango_for_every_small_table():
    for n in (1, 2, 5, 12):
        for won in range(n + 1):
            for lost in range(n - won + 1):
                forth = paired_share_gain(*pairs(won, lost, n))
                back = paired_share_gain(*pairs(lost, won, n))
                assert -1 <= forth.low <= forth.value <= forth.high <= 1
                assert forth.high - forth.low > 0.1
                assert forth.low == pytest.approx(-back.high, abs=1e-9)


@pytest.mark.parametrize("n", [30, 60, 200])
@pytest.mark.parametrize(("share", "difference"), [(0.05, 0.0), (0.05, 0.1), (0.5, 0.05), (0.95, 0.0), (0.9, 0.05)])
def test_tango_covers_the_true_difference(n, share, difference):
    """Two models that agree on most rows: each table drawn once, its interval computed once per distinct table."""
    draws, shared_rows = 1500, 0.7
    random = np.random.default_rng(n)
    common = random.random((draws, n)) < shared_rows
    first, second = random.random((draws, n)), random.random((draws, n))
    second = np.where(common, first, second)
    before, after = first < share, second < share + difference
    tables = zip((after & ~before).sum(axis=1).tolist(), (before & ~after).sum(axis=1).tolist(), strict=True)
    known: dict[tuple[int, int], Interval] = {}
    covered = 0
    for table in tables:
        if table not in known:
            known[table] = paired_share_gain(*pairs(*table, n))
        covered += known[table].low <= difference <= known[table].high
    assert covered / draws >= 0.93


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
    tango = paired_share_gain([1] * 60, [1] * 60)
    assert (still.low, still.high) == pytest.approx((tango.low, tango.high))
    assert mean_interval([0.0] * 20).high == pytest.approx(share_interval(0, 20).high)


def test_few_changed_rows_do_not_make_a_sure_gain():
    before = [0.2] * 60
    for changed, verdict in ((1, "undecided"), (3, "undecided"), (12, "promoted")):
        after = [0.5] * changed + [0.2] * (60 - changed)
        assert decide(paired_mean_gain(before, after)) == verdict


def test_nothing_measured_decides_nothing():
    for empty in (share_interval(0, 0), paired_share_gain([], []), mean_interval([]), paired_mean_gain([], [])):
        assert empty.n == 0
        assert empty.high - empty.low >= 1
    assert decide(paired_share_gain([], [])) == "undecided"
    assert decide(paired_share_gain([0], [1])) == "undecided"
    assert decide(paired_mean_gain([0.0], [1.0])) == "undecided"
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
    assert decide(Interval(0.1, 0.01, 0.2, 60)) == "promoted"
    assert decide(Interval(0.1, 0.0, 0.2, 60)) == "undecided"
    assert decide(Interval(-0.1, -0.2, -0.01, 60)) == "rejected"


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
            known[won, lost] = decide(paired_share_gain(*pairs(won, lost, 200)))
        seen += known[won, lost] == "promoted"
    assert seen / 2000 == pytest.approx(power(200), abs=0.05)


@pytest.mark.parametrize("spread", [0.1, 0.42, 1.0])
def test_the_questions_needed_are_those_with_which_a_gain_is_seen(spread):
    n = questions_needed(spread)
    assert power(n, spread=spread) >= 0.8
    assert power(n - 1, spread=spread) < 0.8
