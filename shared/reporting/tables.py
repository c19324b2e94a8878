"""The tables of a report, in the words of its readers: the same on the page and in Markdown."""

from typing import Any, NamedTuple

from shared.reporting.words import WINS, WINS_OF_FINAL, final_gains, label, plain_gain, plain_triple, row_label, wins


class Table(NamedTuple):
    head: list[str]
    rows: list[list[str]]


def scores(report: dict[str, Any]) -> Table:
    """Every model on the test split, by every grader, with what it gained over the base."""
    graders = _graders(report)
    rows = [
        [row_label(row), *(plain_triple(row["metrics"][g]) for g in graders), plain_gain(row["gain_over_base"]), wins(row)]
        for row in report["table"]
    ]  # fmt: skip
    return Table(["", *map(label, graders), f"gain in {label(report['primary_metric'])} over base", WINS], rows)


def final_against_others(report: dict[str, Any]) -> Table:
    head = [f"gain of {label(report['final']['name'])} over", *map(label, _graders(report)), WINS_OF_FINAL]
    return Table(head, final_gains(report))


def decisions(report: dict[str, Any]) -> Table:
    rows = [[label(d["phase"]), d["decision"], plain_gain(d["gain_on_dev"])] for d in report["decisions"]]
    return Table(["phase", "decision", f"gain in {label(report['primary_metric'])} on dev"], rows)


def _graders(report: dict[str, Any]) -> list[str]:
    return list(report["table"][0]["metrics"])
