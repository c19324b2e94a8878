"""The table on test: all students of a job side by side, and the final one against each of the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.orchestrator.method.evaluate import EvalResult, Pair
from shared.contracts.report import FinalModel, TableRow
from shared.evaluation.statistics import Interval


@dataclass(frozen=True)
class TestTable:
    """All students on test. rows: the base first. final: the final model against every other row. gains: by row, its paired
    gains in the deciding metric."""

    rows: Sequence[TableRow]
    final: FinalModel
    gains: Mapping[str, Interval]


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
        gains={final.name: final.gain_over(final)} | of_final,
    )


def better_by_metric(base: EvalResult, final: EvalResult) -> list[str]:
    """Per question which answer the metric that decides finds better."""
    pairs = zip(base.scores[base.metric], final.scores[final.metric], strict=True)
    return ["tie" if before == after else "second" if after > before else "first" for before, after in pairs]
