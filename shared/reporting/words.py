"""The report of a job in words and figures, as all its forms have them: screen, Markdown, page."""

from collections.abc import Iterator

from shared.contracts.distillation import BASELINE_NAMES, JUDGE, Phase
from shared.contracts.jobs import Usage
from shared.contracts.report import EvolveIteration, PhaseRecords, PilotRecord, Report, TableRow, Triple, WinRecord

LABELS = {
    "base": "base model", **BASELINE_NAMES,
    "distill": "phase 1, distill", "iterate": "phase 2, iterate", "evolve": "phase 3, evolve", "evaluate": "evaluation",
    "string_check": "exact", "first_token": "first word", "chrf": "chrF", "rouge_l": "ROUGE-L", "flags": "flags", "contains": "contains", "judge": "judge's preference over the base",
}  # fmt: skip

REFUSED_SHOWN = 10  # rows that a provider refused
WINS = "won / tied / lost against base"
WINS_OF_FINAL = "won / tied / lost"


def label(name: str) -> str:
    phase, _, number = name.partition("-")
    if phase in LABELS and number.isdecimal():
        return f"{LABELS[phase]}, {'turn' if phase == Phase.EVOLVE else 'round'} {number}"
    return LABELS.get(name, name)


def row_label(row: TableRow) -> str:
    return label(row.name) + (f", mean of {row.draws} draws" if row.draws > 1 else "")


def wins(row: TableRow) -> str:
    """Empty for the base, and in reports of earlier versions."""
    return record_of(row.against_base) if row.against_base and row.name != "base" else ""


def record_of(record: WinRecord) -> str:
    return f"{record.win} / {record.tie} / {record.loss}"


def missing_markers(report: Report) -> list[str]:
    """One line for each student that was trained to write a rationale."""
    return [
        f"{label(row.name)}: {row.missing_markers} of {row.n} answers came without the rationale and the marker that it "
        "was trained to write"
        for row in report.table
        if row.missing_markers is not None
    ]


def what_measured(report: Report) -> str:
    """How students were measured, if questions without a reference changed it; else empty."""
    measured = report.measured
    if measured.by == JUDGE:
        return (
            f"hardly any references in dev or test: the judge decided, {measured.compared} answers compared with the base's; "
            f"{measured.flipped} verdicts turned with the order, {measured.unparsed} could not be read"
        )
    dev, test = (measured.without_reference.get(split, 0) for split in ("dev", "test"))
    return f"not measured, for want of a reference: {dev} questions of dev, {test} of test" if dev or test else ""


def phase_lines(phases: PhaseRecords) -> list[str]:
    """What each phase did: how much was asked for, kept and dropped, and why."""
    lines = _pilot_lines(phases.pilot) if phases.pilot else []
    if distill := phases.distill:
        lines.append(
            f"distill: {distill.kept} of {distill.questions} answers kept, dropped {distill.dropped or 'none'}"
        )
    for number, record in enumerate(phases.rounds, start=1):
        rates = ", ".join(f"try {t}: {rate:.0%}" for t, rate in enumerate(record.pass_rate, start=1))
        lines.append(
            f"iterate, round {number}: passed within {rates} of {record.questions - record.undecidable} questions; "
            f"{record.corrected} answered by the teacher; {record.leaked_hints} hints dropped because they told the answer"
            + (f"; {record.missing_markers} answers without the marker" if record.missing_markers else "")
            + (f"; {record.undecidable} more not tried, nobody can say what passes" if record.undecidable else "")
            + (f"; corrections dropped {record.dropped_corrections}" if record.dropped_corrections else "")
        )
    for number, record in enumerate(phases.turns, start=1):
        lines.append(
            f"evolve, turn {number}: {record.pairs} pairs from {record.questions} questions, "
            f"dropped {record.dropped or 'none'}" + "".join(f"; {figure}" for figure in _lengths_and_margin(record))
        )
    return lines


def _pilot_lines(pilot: PilotRecord) -> list[str]:
    usable = ", ".join(f"{count} with guidance {way}" for way, count in pilot.usable.items())
    lines = [f"pilot: of {pilot.questions} answers each way can be used: {usable}; guidance: {pilot.guidance}"]
    if pilot.gain is not None:
        nll = pilot.student_nll
        closer = f"; the student's NLL {nll.unguided} -> {nll.guided}" if nll and nll.n else ""
        lines.append(f"pilot: guided against unguided answers {pilot.gain:+.3f}, {pilot.decision}{closer}")
    return lines


def _lengths_and_margin(record: EvolveIteration) -> list[str]:
    """Mean tokens of both sides, of all pairs and of those that were trained on, and how training changed the margin."""
    lines, training = [], record.training
    for name, figures in (("mean tokens", record.search), ("of the trained pairs", training)):
        if figures and figures.mean_tokens_chosen is not None:
            lines.append(f"{name} {figures.mean_tokens_chosen} chosen, {figures.mean_tokens_rejected} rejected")
    if training and training.margin is not None:
        lines.append(
            f"margin {training.margin_first:.3f} -> {training.margin:.3f}, chosen preferred in "
            f"{training.reward_accuracy:.0%} of them"
        )
    return lines


def refused_rows(report: Report) -> list[str]:
    """How many rows a provider took never, then a line for each of the first; empty without any."""
    rows = report.refused or []
    head = f"rows that a provider refused, which are missing from the data: {len(rows)}"
    lines = [f"{row.phase}, row {row.id}, {row.outcome}: {row.words}" for row in rows[:REFUSED_SHOWN]]
    more = [f"and {len(rows) - REFUSED_SHOWN} more, in the report's JSON"] if len(rows) > REFUSED_SHOWN else []
    return [head, *lines, *more] if rows else []


def costs_by_phase(report: Report) -> Iterator[tuple[str, Usage, float]]:
    """(phase, calls to the strong model, busy seconds), in the order of the method."""
    phases = {*report.timings, *report.teacher}
    order = ["pilot", *(phase.value for phase in Phase), "evaluate", "sft_references"]
    for phase in [*(name for name in order if name in phases), *sorted(phases - set(order))]:
        timing = report.timings.get(phase)
        yield phase, report.teacher.get(phase, Usage()), timing.busy_seconds if timing else 0.0


def prompts_of(report: Report) -> str:
    versions = ", ".join(f"{kind} {version}" for kind, version in report.prompts.items())
    return f"Versions of the prompts: {versions}" if versions else ""


def final_gains(report: Report) -> list[list[str]]:
    """The final model's paired gains over every other row, by grader."""
    final = report.final
    return [
        [
            label(name),
            *(plain_gain(gains[grader]) if grader in gains else "" for grader in report.graders),
            record_of(final.record[name]) if name in final.record else "",
        ]
        for name, gains in final.by_metric.items()
    ]


def warnings_of(report: Report) -> list[str]:
    """Of data and intervals, of the judge on labels, of the judge's comparison, and of rows that a provider refused."""
    parts = [report, report.judge, report.judged and report.judged.judge]
    return [*(warning for part in parts if part for warning in part.warnings), *refused_rows(report)]


def plain_gain(gain: Triple) -> str:
    """An interval of no width is a student against itself: no gain was measured."""
    return f"{gain:+.3f}" if gain.low < gain.high else "-"
