"""Repeated looks at one dev split promote a model without a gain seldom."""

import numpy as np

from shared.evaluation.looks import TOTAL, look_level
from shared.evaluation.statistics import LEVEL, gain


def test_the_first_look_is_at_the_usual_level_and_all_together_spend_no_more_than_the_total():
    assert look_level(1) == LEVEL
    levels = [look_level(look) for look in range(1, 2_000)]
    assert levels == sorted(levels)
    assert sum((1 - level) / 2 for level in levels) < TOTAL


def test_twenty_jobs_without_a_gain_promote_in_at_most_a_twentieth_of_the_runs():
    """Two models that are right on half of 100 dev rows, by themselves; the plain 95 % interval promotes in far more runs."""
    random = np.random.default_rng(5)
    runs, plain, spent = 60, 0, 0
    for _ in range(runs):
        served = random.random(100) < 0.5
        found = [[int(value) for value in random.random(100) < 0.5] for _ in range(20)]
        before = [int(value) for value in served]
        plain += any(gain(True, before, after).low > 0 for after in found)
        spent += any(gain(True, before, after, look_level(look)).low > 0 for look, after in enumerate(found, start=1))
    assert spent / runs <= 0.1  # 0.05, and room for the chance of 60 runs
    assert plain > 2 * spent
