"""The table on test: all students of a job side by side, the final one against each of the others, and what that comes to in one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.orchestrator.method.evaluate import BASE, EvalResult, Pair
from shared.contracts.distillation import BASELINE_NAMES
from shared.contracts.report import FinalModel, ReportVerdict, TableRow
from shared.evaluation.statistics import Interval


@dataclass(frozen=True)
class TestTable:
    """All students on test. rows: the base first. final: the final model against every other row."""

    rows: Sequence[TableRow]
    final: FinalModel
    verdict: ReportVerdict


def compare_on_test(
    results: Sequence[EvalResult], final: EvalResult, pairs: Mapping[str, Pair] | None = None
) -> TestTable:
    """results: the base first, each with scores over it. pairs: by name those that the final model stands beside, and it, with scores
    that may be subtracted; by default their scores in results are."""
    base = results[0]
    pairs = pairs if pairs is not None else {row.name: (row, final) for row in results if row.name != final.name}
    of_final = {name: own.gain_over(other) for name, (other, own) in pairs.items()}
    return TestTable(
        rows=[
            TableRow(
                name=row.name,
                adapter=row.model.tuned,
                n=len(row.answers),
                draws=row.draws,
                metrics={grader: row.value(grader).rounded() for grader in row.scores},
                gain_over_base=row.gain_over(base).rounded(),
                too_long=row.too_long,
                cut_off=row.cut_off,
                missing_markers=row.missing_markers,
                against_base=row.record_against(base),
                scores=row.scores[row.metric],
            )
            for row in results
        ],
        final=FinalModel(
            name=final.name,
            adapter=final.model.tuned,
            over={name: gain.rounded() for name, gain in of_final.items()},
            by_metric={
                name: {g: own.gain_over(other, g).rounded() for g in own.scores} for name, (other, own) in pairs.items()
            },
            record={name: own.record_against(other) for name, (other, own) in pairs.items()},
        ),
        verdict=verdict_of({final.name: final.gain_over(final)} | of_final, final.model == base.model),
    )


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
