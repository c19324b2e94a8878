"""What the table on the test split comes to, in one sentence: a gain that does not beat what a user would try first proves
nothing."""

from collections.abc import Sequence
from typing import Any

from services.orchestrator.results import Measured
from shared.contracts.distillation import BASELINE_NAMES
from shared.evaluation.statistics import Interval


def verdict(final: Measured, table: Sequence[Measured], metric: str) -> dict[str, Any]:
    """table: the base first. beaten, not_beaten: baselines over which the whole interval of the paired gain lies above
    zero, and the others."""
    base = table[0]
    gains = {row.name: final.gain_over(row, metric) for row in table if row.name in BASELINE_NAMES}
    beaten = [name for name, gain in gains.items() if gain.low > 0]
    over_base = final.gain_over(base, metric)
    return {
        "beats_base": over_base.low > 0,
        "beaten": beaten,
        "not_beaten": [name for name in gains if name not in beaten],
        "words": _words(final.model == base.model, over_base, gains),
    }


def _words(is_base: bool, over_base: Interval, gains: dict[str, Interval]) -> str:
    if is_base:
        return "The job has made nothing better than the base, which stays the final model."
    if over_base.low <= 0:
        return f"The final model is {_standing(over_base)} the base on the test split: no gain is shown."
    if not gains:
        return (
            "The final model beats the base on the test split. No baseline was measured beside it, so nobody knows whether "
            "the gain is worth more than examples in the base's prompt."
        )
    open_ones = [f"{BASELINE_NAMES[name]} ({_standing(gain)} it)" for name, gain in gains.items() if gain.low <= 0]
    if open_ones:
        return (
            f"The final model beats the base on the test split, but not: {'; '.join(open_ones)}. A gain that does not beat "
            "these proves nothing."
        )
    return f"The final model beats the base on the test split, and also: {'; '.join(BASELINE_NAMES[n] for n in gains)}."


def _standing(gain: Interval) -> str:
    return "worse than" if gain.high < 0 else "not told apart from"
