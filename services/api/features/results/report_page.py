"""The report of a job as one self-contained page of HTML: styles and plots are in it, no script, no image."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from services.api.features.results import plots
from services.api.features.results.plots import Plot
from shared.contracts.jobs import Usage
from shared.contracts.report import EvolveIteration, Report
from shared.reporting.tables import decisions, final_against_others, scores
from shared.reporting.words import (
    costs_by_phase,
    label,
    missing_markers,
    phase_lines,
    prompts_of,
    row_label,
    warnings_of,
    what_measured,
)

if TYPE_CHECKING:
    from jinja2 import Template

Bars = list[tuple[str, list[float | None]]]


def page(report: Report) -> str:
    """Every text of the report is escaped: questions and answers may hold markup."""
    return _template().render(
        report=report,
        verdict=report.verdict.words if report.verdict else "What this job measured",
        final=label(report.final.name),
        scores=scores(report),
        against=final_against_others(report),
        decisions=decisions(report),
        remarks=[*filter(None, [what_measured(report)]), *missing_markers(report)],
        warnings=warnings_of(report),
        did=phase_lines(report.phases),
        plots=[plot for plot in _plots(report) if plot is not None],
        samples=report.samples,
        costs_head=["phase", "calls", "from cache", "tokens in", "tokens out", "USD", "busy seconds"],
        costs=[_cost(*cost) for cost in costs_by_phase(report)],
        prompts=prompts_of(report),
        colours=plots.COLOURS,
    )


@lru_cache
def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # the API starts without it

    loader = FileSystemLoader(Path(__file__).parent)
    env = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return env.get_template("report.html.j2")


def _cost(phase: str, used: Usage, seconds: float) -> list[str]:
    counts = (f"{n:,}" for n in (used.teacher_calls, used.cached_calls, used.input_tokens, used.output_tokens))
    return [label(phase), *counts, f"{used.usd_spent:.4f}", f"{seconds:.0f}"]


def _plots(report: Report) -> list[Plot | None]:
    primary, rounds, turns = report.primary_metric, report.phases.rounds, report.phases.turns
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
        plots.intervals(f"{label(primary)} on test, with 95 % intervals", scores),
        plots.intervals(f"Gain in {label(primary)} over the base, paired", gains),
        plots.bars(
            "Passed within so many tries, by round", passed, [f"try {t}" for t in range(1, tries + 1)], "{:.0%}"
        ),
        plots.bars("Mean tokens of preference pairs", _lengths(turns), ["chosen", "rejected"], "{:.1f}"),
        plots.bars("Margin of preference pairs", _margins(turns), ["before training", "after"], "{:.3f}"),
        plots.bars("Training loss, mean of a quarter of the steps", losses, ["first", "last"], "{:.3f}"),
        plots.bars("USD by phase", spent, ["USD"], "{:.4f}") if paid else None,
        plots.bars("Calls to strong models by phase", calls, ["calls"], "{:,.0f}"),
    ]


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
    return [
        (f"turn {number}", [record.training.margin_first, record.training.margin])
        for number, record in enumerate(turns, start=1)
        if record.training is not None
    ]
