"""The tables of a report, in the words of its readers: the same on the page and in Markdown."""

from typing import NamedTuple

from shared.contracts.report import Report
from shared.reporting.words import WINS, WINS_OF_FINAL, final_gains, label, plain_gain, row_label, wins


class TextTable(NamedTuple):
    head: list[str]
    rows: list[list[str]]


def scores(report: Report) -> TextTable:
    """Every model on the test split, by every grader, with its gain over the base."""
    rows = [
        [row_label(row), *(f"{row.metrics[grader]:.3f}" for grader in report.graders), plain_gain(row.gain_over_base), wins(row)]
        for row in report.table
    ]  # fmt: skip
    return TextTable(["", *map(label, report.graders), f"gain in {label(report.primary_metric)} over base", WINS], rows)


def final_against_others(report: Report) -> TextTable:
    head = [f"gain of {label(report.final.name)} over", *map(label, report.graders), WINS_OF_FINAL]
    return TextTable(head, final_gains(report))


def decisions(report: Report) -> TextTable:
    rows = [[label(d.phase), d.decision, plain_gain(d.gain_on_dev)] for d in report.decisions]
    return TextTable(["phase", "decision", f"gain in {label(report.primary_metric)} on dev"], rows)
