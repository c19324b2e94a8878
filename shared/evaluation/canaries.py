"""What a canary with a goal does next, from what was counted so far. Pure functions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log

from shared.contracts.canary import (
    Arm,
    ArmStanding,
    CanaryGoal,
    CanaryRule,
    CanaryStanding,
    Count,
    Metric,
    Outcome,
    Verdict,
)
from shared.evaluation.sequential import (
    Arms,
    difference_limits,
    evidence_worse,
    evidence_worse_pairs,
    pair_limits,
)

ALL_OF_IT = 100.0


@dataclass(frozen=True)
class _Evidence:
    """Logarithms of e-processes. unharmful: against a loss that is larger by the margin or more."""

    harm: float
    gain: float
    unharmful: float
    difference: float | None
    low: float | None
    high: float | None


def last_step(rule: CanaryRule, shadow: bool) -> int:
    """The last step in which answers are compared. At 100 percent no served answer is left."""
    steps = rule.steps
    return len(steps) - (2 if not shadow and len(steps) > 1 and steps[-1] >= ALL_OF_IT else 1)


def decide(rule: CanaryRule, shadow: bool, step: int, counts: Iterable[Count], now: float) -> Verdict:
    """step: the present one, from 0. now: Unix seconds."""
    goal, cells = rule.goal, {(count.step, count.arm): count for count in counts}
    steps = range(len(rule.steps))
    paired = goal.metric is Metric.GRADER
    compared = _of_pairs(goal, cells, steps) if paired else _of_arms(goal, cells, steps)
    needed = log(1 / goal.alpha)
    standing = CanaryStanding(
        step=step + 1,
        served=_arm(cells, Arm.SERVED, steps),
        canary=_arm(cells, Arm.CANARY, steps),
        difference=_rounded(compared.difference),
        low=_rounded(compared.low),
        high=_rounded(compared.high),
        harm=round(max(0.0, compared.harm / needed), 4),
        gain=round(max(0.0, compared.gain / needed), 4),
        ungraded=round(sum(_n(cells, one, Arm.UNGRADED) for one in steps)),
    )
    enough = all(_n(cells, step, arm) >= goal.min_requests for arm in (Arm.SERVED, Arm.CANARY))
    in_time = goal.until is None or now < goal.until
    if compared.harm >= needed:
        return _ended(standing, Outcome.HARM)
    if step < last_step(rule, shadow):
        return Verdict(standing, advance=enough) if in_time else _ended(standing, Outcome.UNDECIDED)
    if not enough:
        return Verdict(standing) if in_time else _ended(standing, Outcome.UNDECIDED)
    if compared.gain >= needed:
        return _ended(standing, Outcome.GAIN)
    waits = in_time and (goal.until is not None or goal.max_requests is not None)
    used_up = goal.max_requests is not None and standing.canary.requests >= goal.max_requests
    if waits and not used_up and compared.unharmful < needed:
        return Verdict(standing)
    return _ended(standing, Outcome.NO_HARM)


def _ended(standing: CanaryStanding, outcome: Outcome) -> Verdict:
    return Verdict(standing.model_copy(update={"outcome": outcome}), outcome=outcome)


Cells = Mapping[tuple[int, Arm], Count]


def _n(cells: Cells, step: int, arm: Arm) -> float:
    count = cells.get((step, arm))
    return count.n if count is not None else 0.0


def _loss(cells: Cells, step: int, arm: Arm) -> float:
    """Within [0, n]: a sum of floating-point numbers may leave it by a rounding."""
    count = cells.get((step, arm))
    return min(max(count.loss, 0.0), count.n) if count is not None else 0.0


def _arm(cells: Cells, arm: Arm, steps: range) -> ArmStanding:
    n = sum(_n(cells, step, arm) for step in steps)
    loss = sum(_loss(cells, step, arm) for step in steps)
    return ArmStanding(requests=round(n), loss=round(loss / n, 6) if n else None)


def _of_arms(goal: CanaryGoal, cells: Cells, steps: range) -> _Evidence:
    """Of the steps in which both versions answered."""
    both = [step for step in steps if _n(cells, step, Arm.SERVED) > 0 and _n(cells, step, Arm.CANARY) > 0]
    if not both:
        return _Evidence(0.0, 0.0, 0.0, None, None, None)
    served, canary = (
        ([_n(cells, step, arm) for step in both], [_loss(cells, step, arm) for step in both])
        for arm in (Arm.SERVED, Arm.CANARY)
    )
    arms = Arms.of(*served, *canary)
    low, high = difference_limits(arms, goal.alpha)
    return _Evidence(
        harm=float(evidence_worse(arms, goal.margin)),
        gain=float(evidence_worse(arms.swapped())),
        unharmful=float(evidence_worse(arms.swapped(), -goal.margin)),
        difference=_weighted(arms),
        low=low,
        high=high,
    )


def _weighted(arms: Arms) -> float:
    """The mean over the periods, by the canary's answers, of the differences of the mean losses."""
    differences = arms.loss_second / arms.n_second - arms.loss_first / arms.n_first
    return float((differences * arms.n_second).sum() / arms.n_second.sum())


def _of_pairs(goal: CanaryGoal, cells: Cells, steps: range) -> _Evidence:
    n = sum(_n(cells, step, Arm.CANARY) for step in steps)
    worse, better = (
        sum(count.loss for (_, arm), count in cells.items() if arm is side) for side in (Arm.WORSE, Arm.BETTER)
    )
    if not n:
        return _Evidence(0.0, 0.0, 0.0, None, None, None)
    low, high = pair_limits(n, worse, better, goal.alpha)
    return _Evidence(
        harm=float(evidence_worse_pairs(n, worse, better, goal.margin)),
        gain=float(evidence_worse_pairs(n, better, worse)),
        unharmful=float(evidence_worse_pairs(n, better, worse, -goal.margin)),
        difference=(worse - better) / n,
        low=low,
        high=high,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
