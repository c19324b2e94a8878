"""The report of a job as a person reads it in a terminal."""

from rich.console import Console
from rich.table import Table

from services.cli.judge_screen import show_judge
from shared.contracts.report import Report, Triple
from shared.reporting.words import (
    WINS,
    costs_by_phase,
    label,
    missing_markers,
    phase_lines,
    prompts_of,
    refused_rows,
    row_label,
    what_measured,
    wins,
)


def _cell(score: Triple, sign: str = "") -> str:
    return f"{score.value:{sign}.3f} [dim][{score.low:{sign}.2f}, {score.high:{sign}.2f}][/dim]"


def show_report(console: Console, report: Report) -> None:
    """The table on the test split, the judge, what each phase did, what the teacher cost, and the busy time."""
    show_table(console, report)
    show_judge(console, report)
    show_phases(console, report)
    show_costs(console, report)
    if versions := prompts_of(report):
        console.print(versions, markup=False, highlight=False, style="dim")


def show_table(console: Console, report: Report) -> None:
    primary, base = label(report.primary_metric), report.table[0]
    table = Table(title=f"Test split, {base.n} questions, 95 % intervals; decided by {primary} on dev")
    for column in ("", *(label(grader) for grader in report.graders), f"gain in {primary} over base", WINS):
        table.add_column(column, overflow="fold")
    for row in report.table:
        gain = row.gain_over_base
        shown = "" if row.name == "base" or gain.low == gain.high else _cell(gain, "+")
        table.add_row(row_label(row), *(_cell(row.metrics[grader]) for grader in report.graders), shown, wins(row))
    console.print(table)
    if remark := what_measured(report):
        console.print(f"  {remark}", markup=False, style="yellow")
    for name in report.final.over:
        console.print(f"  {_against(report, name)}", markup=False)
    if verdict := report.verdict:
        style = "" if verdict.beats_base and not verdict.not_beaten else "yellow"
        console.print(f"  [bold]{verdict.words}[/bold]", style=style)
    for line in missing_markers(report):
        console.print(f"  {line}", markup=False)
    for warning in [*report.warnings, *refused_rows(report)]:
        console.print(f"  {warning}", markup=False, style="yellow")


def _against(report: Report, name: str) -> str:
    """The final model against another row of the table."""
    final, gain = report.final, report.final.over[name]
    if gain.low == gain.high:
        return f"the final model ({label(final.name)}) is {label(name)} itself"
    standing = "better than" if gain.low > 0 else "worse than" if gain.high < 0 else "not told apart from"
    record = final.record.get(name)
    counts = f"; won {record.win}, tied {record.tie}, lost {record.loss}" if record else ""
    return f"the final model ({label(final.name)}) is {standing} {label(name)}: {gain:+.3f}{counts}"


def show_phases(console: Console, report: Report) -> None:
    console.print("\n[bold]Decisions on dev[/bold]")
    for phase in report.decisions:
        console.print(f"  {label(phase.phase)}: {phase.decision}, gain {phase.gain_on_dev:+.3f}", markup=False)
    for line in phase_lines(report.phases):
        console.print(f"  {line}", markup=False)


def show_costs(console: Console, report: Report) -> None:
    table = Table(title="Strong model and time, by phase")
    for column in ("phase", "calls", "from cache", "tokens in", "tokens out", "USD", "busy seconds"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for phase, used, seconds in costs_by_phase(report):
        counts = [str(n) for n in (used.teacher_calls, used.cached_calls, used.input_tokens, used.output_tokens)]
        table.add_row(label(phase), *counts, f"{used.usd_spent:.4f}", f"{seconds:.0f}")
    console.print(table)
    promotion = report.promotion
    console.print(
        f"Final model: [bold]{promotion.model or 'none'}[/bold], {promotion.state} against the {promotion.against} model"
    )
    if forgetting := promotion.forgetting:
        console.print(
            f"General questions answered right: {forgetting.base.value:.0%} before, {forgetting.final.value:.0%} after, "
            f"{forgetting.change:+.3f} on {forgetting.n}"
            + ("; more was forgotten than the job allows, so it was not promoted" if forgetting.guarded else ""),
            markup=False,
        )
    power = report.power
    by_spread = power.chance_by_measured_spread
    console.print(
        f"With {power.n} test questions a true gain of 5 points is seen in {power.chance_to_see_5_points:.0%} of runs"
        + (
            "."
            if by_spread is None
            else f"; by the spread seen here in {by_spread:.0%}, and in 80 % with {power.questions_for_80_percent}."
        )
    )
