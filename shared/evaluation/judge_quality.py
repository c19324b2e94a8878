"""The judge as a measuring device: what is known of it from its own verdicts, and from human labels. Pure functions.

One implementation for the report of a job and for `tests/bench/judge.py`. Verdicts are those of both orders together
(services/judge/compare.py): what turns with the order, or was not given, is a tie.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from shared.contracts.report import Agreement, JudgeFigures
from shared.contracts.rows import ComparisonInput, Preference
from shared.evaluation.statistics import Interval, paired_share_gain, share_interval

OVERALL = "overall"
LABELS_LEAST = 20  # with fewer even a good judge is not told from chance
UNPARSED_MOST = 0.1  # share of pairs without a verdict that goes without a warning


def quality(
    rows: Sequence[ComparisonInput],
    preferences: Sequence[Preference],
    counts: Mapping[str, float],
    truth: Sequence[str] | None = None,
) -> JudgeFigures:
    """Verdicts it failed to give, that turn with the order, a taste for a place or for length; and warnings in words.

    rows, preferences: in the same order. counts: the steps' figures, with the choices of both orders (`preferred_a`,
    `preferred_b`). truth: per row which answer is better by labels or references, so that a taste for length is told
    from longer answers being better. Shares as [value, low, high].
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
    lines = []
    if unparsed > UNPARSED_MOST * n:
        lines.append(f"the judge gave no verdict on {unparsed} of {n} pairs; they count as ties")
    if first.n and (first.low > 0.5 or first.high < 0.5):
        lines.append(f"the judge favours a place: in {first.value:.0%} of its verdicts the answer shown first won")
    if n > unparsed and flipped / (n - unparsed) > 0.5:
        lines.append("most verdicts turn with the order of the answers; little can be told from the others")
    if bias is not None and bias.low > 0:
        lines.append(
            f"the judge favours length: the longer answer won in {longer.value:.0%} of its verdicts, "
            f"{bias.value:.0%} more often than the longer one was better"
        )
    return lines


def agreement(preferences: Sequence[Preference], labels: Sequence[str]) -> Agreement:
    """How often the judge says what people say. labels: "first", "second" or "tie" for each preference.

    agreement: of all labels; a verdict that was not given agrees with none. decided: of those where both named a winner
    (chance there: one half). kappa: Cohen's, over three verdicts (Cohen 1960, Educ. Psychol. Meas. 20:37-46). chance: see
    `chance`. better_than_chance: the whole interval of the agreement lies above it; None with fewer than LABELS_LEAST.
    """
    judged = [p.winners[OVERALL] if p.parsed else "none" for p in preferences]
    both = list(zip(judged, labels, strict=True))
    agreed = share_interval(sum(a == b for a, b in both), len(both))
    decided = [a == b for a, b in both if a in ("first", "second") and b != "tie"]
    level = chance(labels)
    return Agreement(
        agreement=agreed.rounded(),
        chance=round(level, 6),
        kappa=kappa(judged, labels),
        decided=share_interval(sum(decided), len(decided)).rounded(),
        n_decided=len(decided),
        better_than_chance=agreed.low > level if len(both) >= LABELS_LEAST else None,
    )


def chance(labels: Sequence[str]) -> float:
    """The agreement that can be had without knowing which answer is better.

    Say tie always, and the ties among the labels are right; name a winner always, and half of the decided ones are: asked
    in both orders a judge cannot tell which answer is called the first. It is the share of the most frequent label
    once the names of the two sides are worth nothing, and never under 1/3.
    """
    ties = sum(label == "tie" for label in labels) / len(labels) if labels else 1 / 3
    return max(ties, (1 - ties) / 2)


def kappa(judged: Sequence[str], labels: Sequence[str]) -> float | None:
    """Agreement beyond what the two would have if they spoke independently; None where that is 1 already."""
    n = len(labels)
    if n == 0:
        return None
    by_judge, by_people = Counter(judged), Counter(labels)
    expected = sum(by_judge[name] * by_people[name] for name in by_people) / n**2
    if expected == 1:
        return None
    observed = sum(a == b for a, b in zip(judged, labels, strict=True)) / n
    return round((observed - expected) / (1 - expected), 6)
