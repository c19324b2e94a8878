"""The report of a job as a person reads it in a terminal."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from services.local.judge_screen import show_judge
from shared.contracts.distillation import BASELINE_NAMES, Phase

LABELS = {
    "base": "base model", **BASELINE_NAMES,
    "distill": "phase 1, distill", "iterate": "phase 2, iterate", "evolve": "phase 3, evolve", "evaluate": "evaluation",
    "string_check": "exact", "first_token": "first word", "chrf": "chrF", "rouge_l": "ROUGE-L", "flags": "flags", "contains": "contains", "judge": "judge's preference over the base",
}  # fmt: skip

WINS = "won / tied / lost against base"
WINS_OF_FINAL = "won / tied / lost"


def label(name: str) -> str:
    phase, _, number = name.partition("-")
    if phase in LABELS and number.isdecimal():
        return f"{LABELS[phase]}, {'turn' if phase == Phase.EVOLVE else 'round'} {number}"
    return LABELS.get(name, name)


def row_label(row: dict[str, Any]) -> str:
    draws = row.get("draws", 1)
    return label(row["name"]) + (f", mean of {draws} draws" if draws > 1 else "")


def wins(row: dict[str, Any]) -> str:
    """Questions on which a row's model scored higher, the same and lower than the base; reports of earlier versions have none."""
    record = row.get("against_base")
    return record_of(record) if record and row["name"] != "base" else ""


def record_of(record: dict[str, int]) -> str:
    return f"{record['win']} / {record['tie']} / {record['loss']}"


def unmarked(report: dict[str, Any]) -> list[str]:
    """One line for each student that was trained to write a rationale and then did not always do it."""
    return [
        f"{label(row['name'])}: {row['missing_markers']} of {row['n']} answers came without the rationale and the marker that it "
        "was trained to write"
        for row in report["table"]
        if row.get("missing_markers") is not None
    ]


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


def what_measured(report: dict[str, Any]) -> str:
    """Where questions without a reference changed how students were measured: how. Empty where there is nothing to say."""
    found = report.get("measured", {"by": "references", "without_reference": {}})  # earlier reports do not say
    bare = found["without_reference"]
    if found["by"] == "judge":
        return (
            f"hardly any references in dev or test: the judge decided, {found['compared']} answers compared with the base's; "
            f"{found['flipped']} verdicts turned with the order, {found['unparsed']} could not be read"
        )
    if bare.get("dev") or bare.get("test"):
        return f"not measured, for want of a reference: {bare['dev']} questions of dev, {bare['test']} of test"
    return ""


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


def phase_lines(phases: dict[str, Any]) -> list[str]:
    """What each phase did, for the screen and for markdown: what was asked, kept, dropped and why."""
    lines = _pilot_lines(phases.get("pilot", {}))
    if "distill" in phases:
        p = phases["distill"]
        lines.append(f"distill: {p['kept']} of {p['questions']} answers kept, dropped {p['dropped'] or 'none'}")
    for number, r in enumerate(phases.get("iterate", {}).get("rounds", []), start=1):
        rates = ", ".join(f"try {t}: {rate:.0%}" for t, rate in enumerate(r["pass_rate"], start=1))
        lines.append(
            f"iterate, round {number}: passed within {rates} of {r['questions'] - r.get('undecidable', 0)} questions; "
            f"{r['corrected']} answered by the teacher; {r['leaked_hints']} hints dropped because they told the answer"
            + (f"; {r['missing_markers']} answers without the marker" if r.get("missing_markers") else "")
            + (f"; {r['undecidable']} more not tried, nobody can say what passes" if r.get("undecidable") else "")
            + (f"; corrections dropped {r['dropped_corrections']}" if r.get("dropped_corrections") else "")
        )
    for number, t in enumerate(phases.get("evolve", {}).get("turns", []), start=1):
        lines.append(
            f"evolve, turn {number}: {t['pairs']} pairs from {t['questions']} questions, dropped {t['dropped'] or 'none'}"
            + "".join(f"; {figure}" for figure in _lengths_and_margin(t))
        )
    return lines


def _pilot_lines(pilot: dict[str, Any]) -> list[str]:
    if not pilot:
        return []
    usable = ", ".join(f"{count} with guidance {way}" for way, count in pilot["usable"].items())
    lines = [f"pilot: of {pilot['questions']} answers each way can be used: {usable}; guidance: {pilot['guidance']}"]
    if "gain" in pilot:
        value, low, high = pilot["gain"]
        nll = pilot["student_nll"] or {}
        closer = f"; the student's NLL {nll['unguided']} -> {nll['guided']}" if nll.get("n") else ""
        lines.append(
            f"pilot: guided against unguided answers {value:+.3f} [{low:+.3f}, {high:+.3f}], {pilot['decision']}{closer}"
        )
    return lines


def _lengths_and_margin(turn: dict[str, Any]) -> list[str]:
    """Mean tokens of both sides, of all questions and of the pairs that were trained on, and how far training moved the two
    apart; what there is of it."""
    found = []
    for name, figures in (("mean tokens", turn.get("search", {})), ("of the trained pairs", turn.get("training", {}))):
        if "mean_tokens_chosen" in figures:
            found.append(f"{name} {figures['mean_tokens_chosen']} chosen, {figures['mean_tokens_rejected']} rejected")
    if "margin" in (training := turn.get("training", {})):
        found.append(
            f"margin {training['margin_first']:.3f} -> {training['margin']:.3f}, chosen preferred in "
            f"{training['reward_accuracy']:.0%} of them"
        )
    return found


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


def costs_by_phase(report: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], float]]:
    """(phase, its usage by the ledger, seconds in which it was at work), in the order of the method."""
    found = {*report["timings"], *report["teacher"]}
    order = ["pilot", *(phase.value for phase in Phase), "evaluate", "sft_references"]
    for phase in [*(name for name in order if name in found), *sorted(found - set(order))]:
        yield phase, report["teacher"].get(phase, {}), report["timings"].get(phase, {}).get("busy_seconds", 0.0)


def prompts_of(report: dict[str, Any]) -> str:
    found = report.get("prompts", {})
    return (
        f"Versions of the prompts: {', '.join(f'{name} {number}' for name, number in found.items())}" if found else ""
    )
