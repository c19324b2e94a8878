"""The report of a job as its readers have it: titled sections of lines and tables.

Every form (screen, Markdown, page, model card) shows all of them; a form only decides how they look. A new finding of the report
is added here, and a test fails until it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.contracts.report import ForgettingRecord, Power, Report
from shared.reporting import words
from shared.reporting.judging import judge_lines, judge_table
from shared.reporting.phases import phase_lines
from shared.reporting.tables import TextTable
from shared.reporting.words import label, plain_gain


class Line(NamedTuple):
    """warning: it limits what the report is worth."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Section:
    title: str
    table: TextTable | None = None
    lines: list[Line] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lines or (self.table and self.table.rows))


def headline(report: Report) -> str:
    return report.verdict.words if report.verdict else "What this job measured"


def sections(report: Report) -> list[Section]:
    """All findings, in the order in which they are read. The first section is the summary."""
    metric = label(report.primary_metric)
    title = f"Test split, {report.table[0].n} questions, 95 % intervals; decided by {metric} on dev"
    parts = [
        Section(headline(report), lines=[*_summary(report)]),
        Section(title, scores(report), [*_of_table(report)]),
        Section(f"{label(report.final.name)} against every other", final_against_others(report), [*_standings(report)]),
        Section("The judge", judge_table(report), [Line(text) for text in judge_lines(report)]),
        Section("Decisions on dev", decisions(report), [*_of_dev(report)]),
        Section("What each phase did", lines=[Line(text) for text in phase_lines(report.phases)]),
        Section("Strong model and time, by phase", costs(report), [*_prompts(report)]),
    ]
    return [part for part in parts if part]


def _summary(report: Report) -> Iterator[Line]:
    promotion = report.promotion
    rows = ", ".join(f"{split} {n}" for split, n in report.rows.items())
    yield Line(
        f"Job {report.job}: {report.domain}; student {report.student}, {report.method}, seed {report.seed}"
        + (f"; questions: {rows}" if rows else "")
    )
    if told := words.in_short(report):
        yield Line(told)
    rows = f" on {promotion.n} questions of dev" if promotion.n else " on dev"
    counts = f", won / tied / lost {words.record_of(promotion.record)}" if promotion.record else ""
    gain = f": gain in {words.gained(report)} {promotion.gain:+.3f}{rows}{counts}" if promotion.gain else ""
    model = promotion.model or "none"
    named = f" {promotion.compared_with}" if promotion.compared_with else ""
    yield Line(f"Final model: {model}, {promotion.state} against the {promotion.against} model{named}{gain}")
    if promotion.served_meanwhile:
        alias = promotion.served_meanwhile.partition("@")[0]
        yield Line(
            f"{alias} served {promotion.served_meanwhile} by then, with which {model} was not compared; to serve {model} anyway: "
            f"meteor models promote {model}",
            True,
        )
    if promotion.look > 1:
        yield Line(
            f"Look {promotion.look} of this alias at the dev split of this dataset: a promotion needs the whole interval at "
            f"{promotion.level:.2%} above zero"
        )
    if promotion.forgetting:
        yield Line(_forgotten(promotion.forgetting), promotion.forgetting.change.high < 0)
    yield Line(_power(report.power))
    if remark := words.what_measured(report):
        yield Line(remark, True)
    for text in words.data_lines(report):
        yield Line(text, True)
    for text in words.warnings_of(report):
        yield Line(text, True)


def _forgotten(record: ForgettingRecord) -> str:
    unmarked = f"; {record.missing_markers} answers without the marker" if record.missing_markers else ""
    guarded = "; more was forgotten than the job allows, so it was not promoted" if record.guarded else ""
    return (
        f"General questions answered right: {record.base:.0%} before, {record.final:.0%} after, change {record.change:+.3f} on "
        f"{record.n} questions{unmarked}{guarded}"
    )


def _power(power: Power) -> str:
    told = (
        f"With {power.n} test questions a true gain of 5 points is seen in {power.chance_to_see_5_points:.0%} of runs"
    )
    if power.chance_by_measured_spread is None:
        return told
    enough = power.questions_for_80_percent
    return f"{told}; by the spread seen here ({power.measured_spread:.3f}) in {power.chance_by_measured_spread:.0%}" + (
        f", and in 80 % with {enough} questions" if enough else ""
    )


def _of_table(report: Report) -> Iterator[Line]:
    yield from (Line(text) for text in words.missing_markers(report))
    for row in report.table:
        if row.too_long:
            yield Line(
                f"{label(row.name)}: {row.too_long} of {row.n} questions exceed the model's context; they count as wrong",
                True,
            )


def _standings(report: Report) -> Iterator[Line]:
    yield from (Line(words.standing(report, name)) for name in report.final.over)


def _of_dev(report: Report) -> Iterator[Line]:
    for decision in report.decisions:
        yield Line(words.helped(decision), decision.decision != "promoted")
    if report.dev:
        metric = label(report.primary_metric)
        yield Line(
            f"{label(report.final.name)} on the {report.dev.n} questions of dev: {metric} {report.dev.value:.3f}"
        )
        if report.dev.chosen_on:
            yield Line(
                f"Rounds and turns were chosen on {report.dev.chosen_on} other questions of dev, which decided nothing else"
            )


def _prompts(report: Report) -> Iterator[Line]:
    if versions := words.prompts_of(report):
        yield Line(versions)
    if report.material:
        yield Line(words.material(report.material))


def scores(report: Report) -> TextTable:
    """Every model on the test split, by every grader, with its gain over the base, and how many of its answers were cut off; reports
    from before that was counted have no such column."""
    cut_off = all(row.cut_off is not None for row in report.table)
    rows = [
        [words.row_label(row), str(row.n), *(f"{row.metrics[grader]:.3f}" for grader in report.graders), plain_gain(row.gain_over_base), words.wins(row), *([str(row.cut_off)] if cut_off else [])]
        for row in report.table
    ]  # fmt: skip
    gain = f"gain in {label(report.primary_metric)} over base"
    return TextTable(
        ["", "n", *map(label, report.graders), gain, words.WINS, *([words.CUT_OFF] if cut_off else [])], rows
    )


def final_against_others(report: Report) -> TextTable:
    names = [words.gained(report) if name == report.primary_metric else label(name) for name in report.graders]
    head = [f"gain of {label(report.final.name)} over", *names, words.WINS_OF_FINAL]
    return TextTable(head, words.final_gains(report))


def decisions(report: Report) -> TextTable:
    rows = [
        [
            label(d.phase),
            d.decision,
            plain_gain(d.gain_on_dev),
            label(d.against) if d.against else "",
            str(d.n) if d.n is not None else "",
            words.record_of(d.record) if d.record else "",
        ]
        for d in report.decisions
    ]
    gain = f"gain in {words.gained(report)} on dev"
    return TextTable(["phase", "decision", gain, "over", "n", words.WINS_OF_FINAL], rows)


def costs(report: Report) -> TextTable:
    """Calls to the strong model, and the time that steps ran. USD reserved: the most that calls without a known price cost."""
    rows = [
        [
            label(phase),
            *(f"{n:,}" for n in (used.teacher_calls, used.cached_calls, used.input_tokens, used.output_tokens)),
            *(f"{usd:.4f}" for usd in (used.usd_spent, used.usd_reserved, used.usd_saved_by_cache)),
            f"{timing.busy_seconds:.0f}" if timing else "0",
            str(timing.steps) if timing else "0",
        ]
        for phase, used, timing in words.costs_by_phase(report)
    ]
    head = ["phase", "calls", "from cache", "tokens in", "tokens out", "USD", "USD reserved", "USD saved by the cache"]
    return TextTable([*head, "busy seconds", "steps"], rows)
