"""The report of a job as a person reads it in a terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

from services.cli.judge_screen import show_judge
from shared.reporting.words import (
    WINS,
    costs_by_phase,
    label,
    phase_lines,
    prompts_of,
    row_label,
    unmarked,
    what_measured,
    wins,
)


def _cell(triple: list[float]) -> str:
    return f"{triple[0]:.3f} [dim][{triple[1]:.2f}, {triple[2]:.2f}][/dim]"


def show_report(console: Console, report: dict[str, Any]) -> None:
    """All of it: the table on the test split, what each phase did, what the teacher cost, where the time went."""
    show_table(console, report)
    show_judge(console, report)
    show_phases(console, report)
    show_costs(console, report)
    if found := prompts_of(report):
        console.print(found, markup=False, highlight=False, style="dim")


def show_table(console: Console, report: dict[str, Any]) -> None:
    primary = report["primary_metric"]
    graders = list(report["table"][0]["metrics"])
    table = Table(
        title=f"Test split, {report['table'][0]['n']} questions, 95 % intervals; decided by {label(primary)} on dev"
    )
    for column in ("", *(label(g) for g in graders), f"gain in {label(primary)} over base", WINS):
        table.add_column(column, overflow="fold")
    for row in report["table"]:
        value, low, high = row["gain_over_base"]
        gain = "" if row["name"] == "base" or low == high else f"{value:+.3f} [dim][{low:+.2f}, {high:+.2f}][/dim]"
        table.add_row(row_label(row), *(_cell(row["metrics"][g]) for g in graders), gain, wins(row))
    console.print(table)
    if found := what_measured(report):
        console.print(f"  {found}", markup=False, style="yellow")
    for name, (value, low, high) in report["final"]["over"].items():
        if low == high:
            console.print(f"  the final model ({label(report['final']['name'])}) is {label(name)} itself", markup=False)
            continue
        verdict = "better than" if low > 0 else "worse than" if high < 0 else "not told apart from"
        record = report["final"].get("record", {}).get(name)
        counts = f"; won {record['win']}, tied {record['tie']}, lost {record['loss']}" if record else ""
        console.print(
            f"  the final model ({label(report['final']['name'])}) is {verdict} {label(name)}: "
            f"{value:+.3f} [{low:+.3f}, {high:+.3f}]{counts}",
            markup=False,
        )
    if found := report.get("verdict"):
        console.print(
            f"  [bold]{found['words']}[/bold]",
            style="" if found["beats_base"] and not found["not_beaten"] else "yellow",
        )
    for line in unmarked(report):
        console.print(f"  {line}", markup=False)
    for warning in report.get("warnings", []):
        console.print(f"  {warning}", markup=False, style="yellow")


def show_phases(console: Console, report: dict[str, Any]) -> None:
    console.print("\n[bold]Decisions on dev[/bold]")
    for decision in report["decisions"]:
        value, low, high = decision["gain_on_dev"]
        console.print(
            f"  {label(decision['phase'])}: {decision['decision']}, gain {value:+.3f} [{low:+.3f}, {high:+.3f}]",
            markup=False,
        )
    for line in phase_lines(report["phases"]):
        console.print(f"  {line}", markup=False)


def show_costs(console: Console, report: dict[str, Any]) -> None:
    table = Table(title="Strong model and time, by phase")
    for column in ("phase", "calls", "from cache", "tokens in", "tokens out", "USD", "busy seconds"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for phase, used, seconds in costs_by_phase(report):
        counts = [str(used.get(k, 0)) for k in ("teacher_calls", "cached_calls", "input_tokens", "output_tokens")]
        table.add_row(label(phase), *counts, f"{used.get('usd_spent', 0.0):.4f}", f"{seconds:.0f}")
    console.print(table)
    promotion = report["promotion"]
    console.print(
        f"Final model: [bold]{promotion['model'] or 'none'}[/bold], {promotion['state']} against the {promotion['against']} model"
    )
    forgot = promotion.get("forgetting")
    if forgot:
        value, low, high = forgot["change"]
        console.print(
            f"General questions answered right: {forgot['base'][0]:.0%} before, {forgot['final'][0]:.0%} after, "
            f"{value:+.3f} [{low:+.3f}, {high:+.3f}] on {forgot['n']}"
            + ("; more was forgotten than the job allows, so it was not promoted" if forgot["guarded"] else ""),
            markup=False,
        )
    power = report["power"]
    measured, needed = power.get("chance_by_measured_spread"), power.get("questions_for_80_percent")
    console.print(
        f"With {power['n']} test questions a true gain of 5 points is seen in {power['chance_to_see_5_points']:.0%} of runs"
        + ("." if measured is None else f"; by the spread seen here in {measured:.0%}, and in 80 % with {needed}.")
    )
