"""The report of a job in words and figures, as all its forms have them: screen, Markdown, page."""

from collections.abc import Iterator

from shared.contracts.distillation import BASELINE_NAMES, JUDGE, Phase
from shared.contracts.jobs import Usage
from shared.contracts.report import MaterialShown, PhaseDecision, Report, TableRow, Timing, UsedFile, WinRecord
from shared.contracts.report_part import Triple

LABELS = {
    "base": "base model", **BASELINE_NAMES,
    "distill": "phase 1, distill", "iterate": "phase 2, iterate", "evolve": "phase 3, evolve", "evaluate": "evaluation",
    "string_check": "exact", "first_token": "first word", "chrf": "chrF", "rouge_l": "ROUGE-L", "flags": "flags", "contains": "contains", "judge": "judge's preference over the base",
}  # fmt: skip

LIKENESS = {
    "group": "one group", "question": "the same question", "asked": "the same question in another context",
    "near": "nearly the same question", "reference": "the same reference", "passage": "the same passage",
}  # fmt: skip
REFUSED_SHOWN = 10  # rows that a provider refused
WINS = "won / tied / lost against base"
WINS_OF_FINAL = "won / tied / lost"
HEAD_TO_HEAD = "share won head to head, ties split, minus one half"
CUT_OFF = "cut off"  # answers that ended at answer_tokens


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
            f"hardly any references in dev or test: the judge decided, {measured.compared} pairs of answers compared; "
            f"{measured.flipped} verdicts turned with the order, {measured.unparsed} could not be read, of {measured.calls} calls"
        )
    dev, test = (measured.without_reference.get(split, 0) for split in ("dev", "test"))
    return f"not measured, for want of a reference: {dev} questions of dev, {test} of test" if dev or test else ""


def data_lines(report: Report) -> list[str]:
    """What is wrong with the files, and what was dropped of them: questions without a reference, and references that contradict each other."""
    data = report.data
    if data is None:
        return []
    lines = [
        f"{file.field.replace('_', ' ')} {file.file}: version {file.version} of {file.dataset}"
        for file in data.files
        if file.version > 1
    ]
    for file in data.files:
        if file.left:
            shared = ", ".join(f"{LIKENESS.get(kind, kind)} {count}" for kind, count in file.left.items())
            lines.append(f"rows of dev and test that have something in common with a row of another split: {shared}")
    lines += [line for file in data.files for line in _dropped(file)]
    if any(data.without_reference.values()):
        counts = ", ".join(f"{split} {n}" for split, n in data.without_reference.items())
        lines.append(f"questions without a reference: {counts}")
    if data.conflicting_references:
        groups = "; ".join(", ".join(ids) for ids in data.conflicting_ids)
        lines.append(
            f"{data.conflicting_references} questions are asked more than once with different references, for example the rows "
            f"{groups}"
        )
    return lines


def in_short(report: Report) -> str:
    """What the headline rests on: the final model beside the base on test; empty where it is the base."""
    base, metric = report.table[0], report.primary_metric
    final = next((row for row in report.table if row.name == report.final.name and row.name != base.name), None)
    if final is None or metric not in base.metrics or metric not in final.metrics:
        return ""
    return (
        f"On {final.n} questions of test, {label(metric)}: base {base.metrics[metric]:.3f}, final model "
        f"({label(final.name)}) {final.metrics[metric]:.3f}, paired gain {final.gain_over_base:+.3f}"
    )


def gained(report: Report) -> str:
    """What a gain between two students is in. Where the judge measures it has compared the two directly."""
    return HEAD_TO_HEAD if report.measured.by == JUDGE else label(report.primary_metric)


def helped(decision: PhaseDecision) -> str:
    """Whether a phase helped, in plain words."""
    before = label(decision.against) if decision.against else "the student before it"
    rows = f" on {decision.n} questions of dev" if decision.n else " on dev"
    gain = plain_gain(decision.gain_on_dev)
    if gain == "-":
        return f"{label(decision.phase)} trained nothing: the student stayed as it was"
    if decision.decision == "promoted":
        return f"{label(decision.phase)} helped: better than {before}{rows}, {gain}"
    if decision.decision == "rejected":
        return f"{label(decision.phase)} did harm and was undone: worse than {before}{rows}, {gain}"
    return f"{label(decision.phase)} is not shown to help: not told apart from {before}{rows}, {gain}"


def _dropped(file: UsedFile) -> Iterator[str]:
    """What was dropped or changed of a file before the job saw it: a line for each way, with the counts by reason."""
    ways = {
        "rows left out": file.skipped,
        "decided for rows": file.notes,
        "fields that are not read, with the rows that have them": file.ignored_fields,
        "personal data masked": file.masked,
    }
    for way, counts in ways.items():
        if counts:
            told = "; ".join(f"{reason} {count}" for reason, count in counts.items())
            yield f"{file.field.replace('_', ' ')} {file.file}, {way}: {told}"


def standing(report: Report, name: str) -> str:
    """The final model against another row of the table."""
    final, gain = report.final, report.final.over[name]
    if gain.low == gain.high:
        return f"the final model ({label(final.name)}) is {label(name)} itself"
    told = "better than" if gain.low > 0 else "worse than" if gain.high < 0 else "not told apart from"
    record = final.record.get(name)
    counts = f"; won {record.win}, tied {record.tie}, lost {record.loss}" if record else ""
    return (
        f"the final model ({label(final.name)}) is {told} {label(name)}: {gain:+.3f} in {gained(report)} on "
        f"{report.table[0].n} questions of test{counts}"
    )


def refused_rows(report: Report) -> list[str]:
    """How many rows a provider always refused, then a line for each of the first; empty without any."""
    rows = report.refused or []
    head = f"rows that a provider refused, which are missing from the data: {len(rows)}"
    lines = [f"{row.phase}, row {row.id}, {row.outcome}: {row.words}" for row in rows[:REFUSED_SHOWN]]
    more = [f"and {len(rows) - REFUSED_SHOWN} more, in the report's JSON"] if len(rows) > REFUSED_SHOWN else []
    return [head, *lines, *more] if rows else []


def costs_by_phase(report: Report) -> Iterator[tuple[str, Usage, Timing | None]]:
    """(phase, calls to the strong model, its steps' time), in the order of the method."""
    phases = {*report.timings, *report.teacher}
    order = ["pilot", *(phase.value for phase in Phase), "evaluate", "sft_references"]
    for phase in [*(name for name in order if name in phases), *sorted(phases - set(order))]:
        yield phase, report.teacher.get(phase, Usage()), report.timings.get(phase)


def prompts_of(report: Report) -> str:
    versions = ", ".join(f"{kind} {version}" for kind, version in report.prompts.items())
    return f"Versions of the prompts: {versions}" if versions else ""


def material(shown: MaterialShown) -> str:
    parts = [f"{shown.bytes} bytes ({', '.join(digest[:12] for digest in shown.texts)})"] if shown.texts else []
    parts += [f"material of their own with {shown.rows} questions"] if shown.rows else []
    return f"Teacher and judge were shown what no student was: {', and '.join(parts)}"


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
    labels = report.judge.labels if report.judge else None
    parts = [report, report.judge, labels, report.judged.judge if report.judged else None]
    return list(dict.fromkeys([*(one for part in parts if part for one in part.warnings), *refused_rows(report)]))


def plain_gain(gain: Triple) -> str:
    """An interval of no width is a student against itself: no gain was measured."""
    return f"{gain:+.3f}" if gain.low < gain.high else "-"
