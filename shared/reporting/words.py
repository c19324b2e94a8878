"""The report of a job in words and figures, as all its forms have them: screen, Markdown, page."""

from collections.abc import Iterator
from typing import Any

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


def final_gains(report: dict[str, Any]) -> list[list[str]]:
    """The final model's paired gains over base and baselines, by every grader; earlier reports have them by one alone."""
    final, primary, graders = report["final"], report["primary_metric"], report["table"][0]["metrics"]
    by_metric = final.get("by_metric") or {name: {primary: gain} for name, gain in final["over"].items()}
    return [
        [
            label(name),
            *(plain_gain(gains[g]) if g in gains else "" for g in graders),
            record_of(final["record"][name]) if name in final.get("record", {}) else "",
        ]
        for name, gains in by_metric.items()
    ]


def warnings_of(report: dict[str, Any]) -> list[str]:
    """Of the data and the intervals, and of the judge."""
    judged = (report.get("judged") or {}).get("judge", {})
    return [
        *report.get("warnings", []),
        *(report.get("judge") or {}).get("warnings", []),
        *judged.get("warnings", []),
    ]


def plain_triple(triple: list[float], sign: str = "") -> str:
    value, low, high = triple
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def plain_gain(triple: list[float]) -> str:
    """An interval of no width is a student against itself: no gain was measured."""
    return plain_triple(triple, "+") if triple[1] < triple[2] else "-"
