"""The judge's quality by its own verdicts and by human preferences. Pure functions, used by reports and `tests/bench/judge.py`.

A verdict combines both orders of the answers (services/judge/compare.py); if they disagree or one is missing it is a tie.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from shared.contracts.report import Agreement, JudgeFigures
from shared.contracts.rows import OVERALL, ComparisonInput, Preference
from shared.evaluation.statistics import Interval, paired_share_gain, share_interval

LABELS_LEAST = 20  # with fewer a good judge cannot be distinguished from chance
UNPARSED_MOST = 0.1  # share of pairs without a verdict from which a warning is given


def quality(
    rows: Sequence[ComparisonInput],
    preferences: Sequence[Preference],
    counts: Mapping[str, float],
    truth: Sequence[str] | None = None,
) -> JudgeFigures:
    """Missing verdicts, verdicts that flip with the order, position bias, length bias, and warnings. Shares are [value, low, high].

    rows, preferences: in the same order. counts: the steps' metrics with the choices of both orders (`preferred_a`,
    `preferred_b`). truth: per row the better answer by labels or references; without it length bias cannot be distinguished from
    longer answers being better.
    """
    parsed = [(row, p, i) for i, (row, p) in enumerate(zip(rows, preferences, strict=True)) if p.parsed]
    flipped = sum(OVERALL in p.flipped for _, p, _ in parsed)
    first = share_interval(int(counts["preferred_a"]), int(counts["preferred_a"] + counts["preferred_b"]))
    decided = [(row, p.winners[OVERALL], i) for row, p, i in parsed if p.winners[OVERALL] != "tie"]
    longer = [(_longer(row, winner), i, row) for row, winner, i in decided if len(row.first) != len(row.second)]
    by_judge = share_interval(sum(taken for taken, _, _ in longer), len(longer))
    bias = None
    if truth is not None:
        known = [(_longer(row, truth[i]), taken) for taken, i, row in longer if truth[i] != "tie"]
        bias = paired_share_gain([right for right, _ in known], [taken for _, taken in known])
    unparsed = len(preferences) - len(parsed)
    return JudgeFigures(
        n=len(preferences),
        unparsed=unparsed,
        flip_rate=share_interval(flipped, len(parsed)).rounded(),
        preferred_the_first_shown=first.rounded(),
        preferred_the_longer=by_judge.rounded(),
        length_bias=bias.rounded() if bias is not None else None,
        warnings=_warnings(len(preferences), unparsed, flipped, first, by_judge, bias),
    )


def _longer(row: ComparisonInput, winner: str) -> bool:
    """Whether the longer answer won; the two differ in length."""
    return (len(row.second) > len(row.first)) == (winner == "second")


def _warnings(
    n: int, unparsed: int, flipped: int, first: Interval, longer: Interval, bias: Interval | None
) -> list[str]:
    warnings = []
    if unparsed > UNPARSED_MOST * n:
        warnings.append(f"the judge gave no verdict on {unparsed} of {n} pairs; they count as ties")
    if first.n and (first.low > 0.5 or first.high < 0.5):
        warnings.append(
            f"the judge favours a position: the answer shown first won in {first.value:.0%} of its verdicts"
        )
    if n > unparsed and flipped / (n - unparsed) > 0.5:
        warnings.append("most verdicts flip with the order of the answers; the others are little evidence")
    if bias is not None and bias.low > 0:
        warnings.append(
            f"the judge favours length: the longer answer won in {longer.value:.0%} of its verdicts, "
            f"{bias.value:.0%} more often than the longer one was better"
        )
    return warnings


def agreement(preferences: Sequence[Preference], labels: Sequence[str]) -> Agreement:
    """Agreement of the judge with human labels. labels: "first", "second" or "tie" for each preference.

    agreement: over all labels; a missing verdict agrees with none. decided: over those where both name a winner (chance: 1/2).
    kappa: Cohen's, over three verdicts (Cohen 1960, Educ. Psychol. Meas. 20:37-46). chance: see `chance`.
    better_than_chance: the whole interval of the agreement is above it; None with fewer than LABELS_LEAST.
    """
    verdicts = [p.winners[OVERALL] if p.parsed else "none" for p in preferences]
    both = list(zip(verdicts, labels, strict=True))
    agreed = share_interval(sum(a == b for a, b in both), len(both))
    decided = [a == b for a, b in both if a in ("first", "second") and b != "tie"]
    level = chance(labels)
    return Agreement(
        agreement=agreed.rounded(),
        chance=round(level, 6),
        kappa=kappa(verdicts, labels),
        decided=share_interval(sum(decided), len(decided)).rounded(),
        n_decided=len(decided),
        better_than_chance=agreed.low > level if len(both) >= LABELS_LEAST else None,
    )


def chance(labels: Sequence[str]) -> float:
    """The best agreement of a judge that cannot tell the answers apart, at least 1/3.

    Always answering tie agrees with all ties. Always naming a winner agrees with half of the decided labels, since the judge sees
    both orders.
    """
    ties = sum(label == "tie" for label in labels) / len(labels) if labels else 1 / 3
    return max(ties, (1 - ties) / 2)


def kappa(verdicts: Sequence[str], labels: Sequence[str]) -> float | None:
    """Cohen's kappa: agreement beyond that of independent raters; None if that is 1."""
    n = len(labels)
    if n == 0:
        return None
    by_judge, by_people = Counter(verdicts), Counter(labels)
    expected = sum(by_judge[name] * by_people[name] for name in by_people) / n**2
    if expected == 1:
        return None
    observed = sum(a == b for a, b in zip(verdicts, labels, strict=True)) / n
    return round((observed - expected) / (1 - expected), 6)
