"""What a canary does next, by its counts."""

from typing import Any

import pytest

from shared.contracts.canary import Arm, CanaryGoal, CanaryRule, Count, Metric, Outcome
from shared.evaluation.canaries import decide, last_step

NOW = 1_000_000.0


def rule(steps: tuple[float, ...] = (10, 50), promote: bool = False, **goal: Any) -> CanaryRule:
    wanted = {"metric": Metric.ERRORS, "min_requests": 100} | goal
    return CanaryRule(goal=CanaryGoal.model_validate(wanted), steps=list(steps), promote=promote)


def counts(*steps: tuple[float, float, float, float]) -> list[Count]:
    """(served answers, their loss, canary answers, their loss) by step."""
    cells = [(step, *one) for step, one in enumerate(steps)]
    return [Count(step, Arm.SERVED, n, loss) for step, n, loss, _, _ in cells] + [
        Count(step, Arm.CANARY, n, loss) for step, _, _, n, loss in cells
    ]


def verdict(made: CanaryRule, step: int, *given: tuple[float, float, float, float], now: float = NOW):
    return decide(made, False, step, counts(*given), now)


@pytest.mark.parametrize(
    ("step", "given", "advance", "outcome"),
    [
        (0, [], False, None),
        (0, [(900, 18, 99, 2)], False, None),
        (0, [(900, 18, 100, 2)], True, None),
        (0, [(900, 18, 20, 15)], False, Outcome.HARM),  # without waiting for min_requests
        (0, [(900, 300, 100, 2)], True, None),  # a gain is decided in the last step
        (1, [(900, 18, 100, 2), (99, 2, 150, 3)], False, None),
        (1, [(900, 18, 100, 2), (100, 2, 100, 2)], False, Outcome.NO_HARM),
        (1, [(900, 300, 100, 2), (100, 30, 100, 2)], False, Outcome.GAIN),
    ],
)
def test_steps_and_outcomes(step: int, given: list, advance: bool, outcome: Outcome | None):
    decided = verdict(rule(), step, *given)
    assert (decided.advance, decided.outcome, decided.standing.outcome) == (advance, outcome, outcome)
    assert decided.standing.step == step + 1


def test_the_last_step_lasts_until_its_end_where_one_is_given():
    given = [(900, 18, 100, 2), (100, 2, 100, 2)]
    assert verdict(rule(max_requests=300), 1, *given).outcome is None
    assert verdict(rule(max_requests=200), 1, *given).outcome is Outcome.NO_HARM
    assert verdict(rule(until=int(NOW) + 1), 1, *given).outcome is None
    assert verdict(rule(until=int(NOW)), 1, *given).outcome is Outcome.NO_HARM


def test_a_margin_that_is_excluded_ends_the_last_step_before_its_end():
    given = [(9000, 180, 1000, 20), (1000, 20, 1000, 20)]
    assert verdict(rule(max_requests=10**6), 1, *given).outcome is None
    assert verdict(rule(max_requests=10**6, margin=0.1), 1, *given).outcome is Outcome.NO_HARM


def test_too_few_answers_until_its_end_decide_nothing():
    late = rule(until=int(NOW))
    assert verdict(late, 0, (900, 18, 100, 2)).outcome is Outcome.UNDECIDED
    assert verdict(late, 1, (900, 18, 100, 2), (10, 0, 10, 0)).outcome is Outcome.UNDECIDED
    assert verdict(late, 0, (900, 18, 20, 15)).outcome is Outcome.HARM, "a harm is a harm"


def test_a_step_of_all_conversations_compares_nothing():
    assert last_step(rule((5, 50, 100)), shadow=False) == 1
    assert last_step(rule((5, 50)), shadow=False) == 1
    assert last_step(rule((100,)), shadow=True) == 0


def test_the_standing_tells_means_limits_and_evidence():
    standing = verdict(rule(), 1, (900, 90, 100, 20), (200, 20, 200, 50)).standing
    assert (standing.served.requests, standing.canary.requests) == (1100, 300)
    assert standing.served.loss == pytest.approx(0.1)
    assert standing.difference == pytest.approx((100 * 0.1 + 200 * 0.15) / 300, abs=1e-5)
    assert standing.low is not None
    assert standing.high is not None
    assert standing.difference is not None
    assert -1 < standing.low < standing.difference < standing.high < 1
    assert standing.harm > 0
    assert standing.gain == 0


def test_pairs_are_compared_with_one_another():
    made = CanaryRule(
        goal=CanaryGoal.model_validate({"metric": "grader", "grader": {"type": "json_schema", "schema": {}}}),
        steps=[20.0],
        promote=False,
    )

    def of(worse: float, better: float, n: float = 200) -> Outcome | None:
        sums = {
            Arm.SERVED: (n, 20),
            Arm.CANARY: (n, 20 + worse - better),
            Arm.WORSE: (0, worse),
            Arm.BETTER: (0, better),
        }
        cells = [Count(0, arm, *one) for arm, one in sums.items()] + [Count(0, Arm.UNGRADED, 3, 0)]
        decided = decide(made, True, 0, cells, NOW)
        assert decided.standing.ungraded == 3
        return decided.outcome

    assert of(30, 2) is Outcome.HARM
    assert of(2, 20) is Outcome.GAIN
    assert of(10, 9) is Outcome.NO_HARM
    assert of(10, 9, n=50) is None


def test_sums_that_left_their_bounds_by_a_rounding_are_no_fault():
    assert verdict(rule(), 0, (100, 100.0000001, 100, -0.0000001)).standing.canary.loss == 0
