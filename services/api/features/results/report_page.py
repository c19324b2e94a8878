"""The report of a job as one self-contained page of HTML: styles and plots are in it, no script, no image."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from services.api.features.results import plots
from services.api.features.results.plots import Plot
from shared.contracts.phase_records import EvolveIteration
from shared.contracts.report import Report
from shared.reporting.sections import sections
from shared.reporting.words import costs_by_phase, label, row_label

if TYPE_CHECKING:
    from jinja2 import Template

Bars = list[tuple[str, list[float | None]]]


def page(report: Report) -> str:
    """Every text of the report is escaped: questions and answers may hold markup."""
    summary, tested, *others = sections(report)
    return _template().render(
        report=report,
        summary=summary,
        tested=tested,
        others=others,
        final=label(report.final.name),
        plots=[plot for plot in _plots(report) if plot is not None],
        samples=report.samples,
    )


@lru_cache
def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # the API starts without it

    loader = FileSystemLoader(Path(__file__).parent)
    env = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return env.get_template("report.html.j2")


def _plots(report: Report) -> list[Plot | None]:
    primary, rounds, turns = report.primary_metric, report.phases.rounds, report.phases.turns
    n = report.table[0].n
    scores = [(row_label(row), row.metrics[primary]) for row in report.table]
    gains = [(row_label(row), row.gain_over_base) for row in report.table if row.name != "base"]
    tries = max((len(record.pass_rate) for record in rounds), default=0)
    passed = [(f"round {n}", _padded(record.pass_rate, tries)) for n, record in enumerate(rounds, start=1)]
    costs = list(costs_by_phase(report))
    spent = [(label(phase), [used.usd_spent]) for phase, used, _ in costs]
    calls = [(label(phase), [used.teacher_calls]) for phase, used, _ in costs]
    losses = [(name, [figures.loss_first, figures.loss]) for name, figures in report.phases.trainings()]
    paid = any(row[1][0] for row in spent)
    return [
        plots.intervals(f"{label(primary)} on {n} questions of test, with 95 % intervals", scores),
        plots.intervals(
            f"Gain in {label(primary)} over the base on these questions, paired, with 95 % intervals", gains
        ),
        plots.bars(
            "Passed within so many tries, by round", passed, [f"try {t}" for t in range(1, tries + 1)], "{:.0%}"
        ),
        plots.bars("One of so many samples passes, before training", *_pass_at(report), "{:.0%}"),
        plots.bars("Mean tokens of preference pairs", _lengths(turns), ["chosen", "rejected"], "{:.1f}"),
        plots.bars("Margin of preference pairs", _margins(turns), ["before training", "after"], "{:.3f}"),
        plots.bars("Training loss, mean of a quarter of the steps", losses, ["first", "last"], "{:.3f}"),
        plots.bars("USD by phase", spent, ["USD"], "{:.4f}") if paid else None,
        plots.bars("Calls to strong models by phase", calls, ["calls"], "{:,.0f}"),
    ]


def _pass_at(report: Report) -> tuple[Bars, list[str]]:
    """By round and turn, as far as samples were verified."""
    drawn = [(name, figures.pass_at) for name, figures in report.phases.sampled() if figures.pass_at]
    ks = sorted({k for _, rates in drawn for k in rates}, key=lambda k: (len(k), k))
    return [(name, [rates.get(k) for k in ks]) for name, rates in drawn], [f"pass@{k}" for k in ks]


def _padded(values: list[float], length: int) -> list[float | None]:
    return [*values, *[None] * (length - len(values))]


def _lengths(turns: list[EvolveIteration]) -> Bars:
    """Of all pairs that a search found, and of those that were trained on."""
    return [
        (f"turn {number}, {name}", [figures.mean_tokens_chosen, figures.mean_tokens_rejected])
        for number, record in enumerate(turns, start=1)
        for name, figures in (("found", record.search), ("trained", record.training))
        if figures is not None
    ]


def _margins(turns: list[EvolveIteration]) -> Bars:
    """On pairs held out, where there are any."""
    trained = [(f"turn {number}", record.training) for number, record in enumerate(turns, start=1) if record.training]
    return [
        (f"{name}, held out", [figures.held_out.margin_first, figures.held_out.margin])
        if figures.held_out
        else (name, [figures.margin_first, figures.margin])
        for name, figures in trained
    ]
