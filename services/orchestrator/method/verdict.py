"""What the table on test comes to, in one sentence."""

from collections.abc import Mapping

from services.orchestrator.method.evaluate import BASE
from shared.contracts.distillation import BASELINE_NAMES
from shared.contracts.report import ReportVerdict
from shared.evaluation.statistics import Interval


def verdict_of(gains: Mapping[str, Interval], is_base: bool) -> ReportVerdict:
    """What the table comes to. gains: of the final model over the base and the baselines. is_base: it is the base."""
    over_base = gains[BASE]
    over_baselines = {name: gain for name, gain in gains.items() if name in BASELINE_NAMES}
    return ReportVerdict(
        beats_base=over_base.low > 0,
        beaten=[name for name, gain in over_baselines.items() if gain.low > 0],
        not_beaten=[name for name, gain in over_baselines.items() if gain.low <= 0],
        words=_sentence(is_base, over_base, over_baselines),
    )


def _sentence(is_base: bool, over_base: Interval, gains: dict[str, Interval]) -> str:
    if is_base:
        return "No phase improved on the base, which stays the final model."
    if over_base.low <= 0:
        return f"The final model is {_standing(over_base)} the base on the test split: no gain is shown."
    if not gains:
        return (
            "The final model beats the base on the test split. No baseline was measured beside it, so it is "
            "unknown whether examples in the base's prompt would gain as much."
        )
    unbeaten = [f"{BASELINE_NAMES[name]} ({_standing(gain)} it)" for name, gain in gains.items() if gain.low <= 0]
    if unbeaten:
        return (
            f"The final model beats the base on the test split, but not: {'; '.join(unbeaten)}. A gain that does not beat "
            "these proves nothing."
        )
    return f"The final model beats the base on the test split, and also: {'; '.join(BASELINE_NAMES[n] for n in gains)}."


def _standing(gain: Interval) -> str:
    return "worse than" if gain.high < 0 else "not told apart from"
