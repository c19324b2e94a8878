"""What a report says of the judge and in its eyes, as a person reads it in a terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

ENDED = {
    "margin_reached": "the share is known well enough",
    "questions_used_up": "all questions were asked",
    "budget_used_up": "evaluation.max_judge_calls leaves no room for another",
}


def show_judge(console: Console, report: dict[str, Any]) -> None:
    """The comparison, the scores, how the judge does on labels, and every warning."""
    judged, judge = report.get("judged"), report.get("judge") or {}
    if judged:
        _show_judged(console, judged)
    if judge.get("labels"):
        _show_labels(console, judge["labels"])
    for warning in [*judge.get("warnings", []), *(judged["judge"]["warnings"] if judged else [])]:
        console.print(f"  {warning}", markup=False, style="yellow")


def _show_judged(console: Console, judged: dict[str, Any]) -> None:
    absolute = judged.get("absolute")
    table = Table(title=f"The judge compares the final model with the base on {judged['n']} questions, in both orders")
    for column in (
        "",
        "win",
        "tie",
        "loss",
        "share, ties split",
        *(("score 1-10, base", "final", "gain") if absolute else ()),
    ):
        table.add_column(column, justify="left" if column == "" else "right")
    for name, found in judged["criteria"].items():
        scores = absolute["criteria"].get(name) if absolute else None
        cells = [_cell(scores[side]) for side in ("base", "final", "gain")] if scores else []
        table.add_row(name, *(str(found[k]) for k in ("win", "tie", "loss")), _cell(found["share"]), *cells)
    console.print(table)
    console.print(
        f"  {judged['calls']} calls to the judge; it ended there because {ENDED[judged['ended']]}", markup=False
    )
    if absolute and any(absolute["unparsed"].values()):
        lost = absolute["unparsed"]
        console.print(f"  scores that were not given: base {lost['base']}, final {lost['final']}", markup=False)


def _show_labels(console: Console, found: dict[str, Any]) -> None:
    value, low, high = found["agreement"]
    right = found["decided"]
    kappa = "not defined" if found["kappa"] is None else f"{found['kappa']:.2f}"
    console.print(
        f"  the judge agrees with {value:.0%} [{low:.0%}, {high:.0%}] of {found['n']} human labels; chance is "
        f"{found['chance']:.0%}, kappa {kappa}. Where both name a winner: {right[0]:.0%} of {found['n_decided']}. "
        f"{found['flip_rate'][0]:.0%} of its verdicts turn with the order",
        markup=False,
    )


def _cell(triple: list[float]) -> str:
    return f"{triple[0]:.3g} [dim][{triple[1]:.2f}, {triple[2]:.2f}][/dim]"
