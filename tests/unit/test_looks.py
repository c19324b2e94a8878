"""Repeated looks at one dev split promote a model without a gain seldom."""

from typing import Any

import pytest

from shared.evaluation.looks import TOTAL, look_level
from shared.evaluation.statistics import LEVEL
from tests.bench.looks import share_of_runs


def test_the_first_look_is_at_the_usual_level_and_all_together_spend_no_more_than_the_total():
    assert look_level(1) == LEVEL
    levels = [look_level(look) for look in range(1, 2_000)]
    assert levels == sorted(levels)
    assert sum((1 - level) / 2 for level in levels) < TOTAL


@pytest.mark.parametrize(
    ("runs", "case"),
    [
        (300, {}),
        (200, {"each": 5}),
        (200, {"rows": 150, "rounds": 3}),
        (60, {"kind": "judge"}),
    ],
)
def test_twenty_jobs_without_a_gain_promote_in_at_most_a_twentieth_of_the_runs(runs: int, case: dict[str, Any]):
    """By a job's own decisions; `python -m tests.bench.looks` has more of them."""
    assert share_of_runs(runs, **case) <= 0.05


def test_without_spending_the_error_far_more_runs_promote():
    assert share_of_runs(60, spent=False) > 0.15
    assert share_of_runs(60, rows=150, rounds=3, parted=False, spent=False) > 0.25
