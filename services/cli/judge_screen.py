"""What a report says about the judge and its comparison, as a person reads it in a terminal."""

from rich.console import Console
from rich.table import Table

from shared.contracts.report import JudgedComparison, LabelAgreement, Report, Triple

ENDED = {
    "margin_reached": "the share is known well enough",
    "questions_used_up": "all questions were asked",
    "budget_used_up": "evaluation.max_judge_calls leaves no room for another",
}


def show_judge(console: Console, report: Report) -> None:
    """The comparison, the scores, the agreement with labels, and every warning."""
    judged, judge = report.judged, report.judge
    if judged:
        _show_judged(console, judged)
    if judge and judge.labels:
        _show_labels(console, judge.labels)
    for warning in [*(judge.warnings if judge else []), *(judged.judge.warnings if judged else [])]:
        console.print(f"  {warning}", markup=False, style="yellow")


def _show_judged(console: Console, judged: JudgedComparison) -> None:
    absolute = judged.absolute
    table = Table(title=f"The judge compares the final model with the base on {judged.n} questions, in both orders")
    columns = ["", "win", "tie", "loss", "share, ties split"]
    for column in columns + (["score 1-10, base", "final", "gain"] if absolute else []):
        table.add_column(column, justify="left" if column == "" else "right")
    for name, criterion in judged.criteria.items():
        counts = (str(n) for n in (criterion.win, criterion.tie, criterion.loss))
        score = absolute.criteria.get(name) if absolute else None
        cells = [_cell(score.base), _cell(score.final), _cell(score.gain)] if score else []
        table.add_row(name, *counts, _cell(criterion.share), *cells)
    console.print(table)
    console.print(f"  {judged.calls} calls to the judge; it ended there because {ENDED[judged.ended]}", markup=False)
    if absolute and any(absolute.unparsed.values()):
        lost = absolute.unparsed
        console.print(f"  scores that were not given: base {lost['base']}, final {lost['final']}", markup=False)


def _show_labels(console: Console, labels: LabelAgreement) -> None:
    kappa = "not defined" if labels.kappa is None else f"{labels.kappa:.2f}"
    console.print(
        f"  the judge agrees with {labels.agreement:.0%} of {labels.n} human labels; chance is "
        f"{labels.chance:.0%}, kappa {kappa}. Where both name a winner: {labels.decided.value:.0%} of {labels.n_decided}. "
        f"{labels.flip_rate.value:.0%} of its verdicts turn with the order",
        markup=False,
    )


def _cell(score: Triple) -> str:
    return f"{score.value:.3g} [dim][{score.low:.2f}, {score.high:.2f}][/dim]"
