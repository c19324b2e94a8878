"""The report of a job as one page of HTML that asks nobody for anything: styles and plots are in it, no script, no image."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.api.features.results import plots
from services.api.features.results.plots import Plot
from shared.reporting.tables import decisions, final_against_others, scores
from shared.reporting.words import (
    costs_by_phase,
    label,
    phase_lines,
    prompts_of,
    row_label,
    unmarked,
    warnings_of,
    what_measured,
)

if TYPE_CHECKING:
    from jinja2 import Template

COUNTS = ("teacher_calls", "cached_calls", "input_tokens", "output_tokens")


def page(report: dict[str, Any]) -> str:
    """Every text of the report is escaped: questions and answers may hold markup."""
    return _template().render(
        report=report,
        verdict=report.get("verdict", {}).get("words", "What this job measured"),
        final=label(report["final"]["name"]),
        scores=scores(report),
        against=final_against_others(report),
        decisions=decisions(report),
        remarks=[*filter(None, [what_measured(report)]), *unmarked(report)],
        warnings=warnings_of(report),
        did=phase_lines(report["phases"]),
        plots=[plot for plot in _plots(report) if plot is not None],
        samples=report.get("samples", []),
        costs_head=["phase", "calls", "from cache", "tokens in", "tokens out", "USD", "busy seconds"],
        costs=[_cost(*found) for found in costs_by_phase(report)],
        prompts=prompts_of(report),
        colours=plots.COLOURS,
    )


@lru_cache
def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # the API starts without it

    loader = FileSystemLoader(Path(__file__).parent)
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return found.get_template("report.html.j2")


def _cost(phase: str, used: dict[str, Any], seconds: float) -> list[str]:
    counts = (f"{used.get(name, 0):,}" for name in COUNTS)
    return [label(phase), *counts, f"{used.get('usd_spent', 0.0):.4f}", f"{seconds:.0f}"]


def _plots(report: dict[str, Any]) -> list[Plot | None]:
    primary, table = report["primary_metric"], report["table"]
    scores = [(row_label(row), row["metrics"][primary]) for row in table]
    gains = [(row_label(row), row["gain_over_base"]) for row in table if row["name"] != "base"]
    rounds = report["phases"].get("iterate", {}).get("rounds", [])
    turns = report["phases"].get("evolve", {}).get("turns", [])
    tries = max((len(r["pass_rate"]) for r in rounds), default=0)
    passed = [(f"round {n}", _padded(r["pass_rate"], tries)) for n, r in enumerate(rounds, start=1)]
    spent = [(label(phase), [used.get("usd_spent", 0.0)]) for phase, used, _ in costs_by_phase(report)]
    calls = [(label(phase), [used.get("teacher_calls", 0)]) for phase, used, _ in costs_by_phase(report)]
    paid = any(row[1][0] for row in spent)
    return [
        plots.intervals(f"{label(primary)} on test, with 95 % intervals", scores),
        plots.intervals(f"Gain in {label(primary)} over the base, paired", gains),
        plots.bars(
            "Passed within so many tries, by round", passed, [f"try {t}" for t in range(1, tries + 1)], "{:.0%}"
        ),
        plots.bars("Mean tokens of preference pairs", _lengths(turns), ["chosen", "rejected"], "{:.1f}"),
        plots.bars("Margin of preference pairs", _margins(turns), ["before training", "after"], "{:.3f}"),
        plots.bars(
            "Training loss, mean of a quarter of the steps", _losses(rounds, turns, report), ["first", "last"], "{:.3f}"
        ),
        plots.bars("USD by phase", spent, ["USD"], "{:.4f}") if paid else None,
        plots.bars("Calls to strong models by phase", calls, ["calls"], "{:,.0f}"),
    ]


def _padded(values: list[float], length: int) -> list[float | None]:
    return [*values, *[None] * (length - len(values))]


def _lengths(turns: list[dict[str, Any]]) -> list[tuple[str, list[float | None]]]:
    """Of all pairs that a search found, and of those that were trained on."""
    return [
        (f"turn {number}, {name}", [figures.get("mean_tokens_chosen"), figures.get("mean_tokens_rejected")])
        for number, turn in enumerate(turns, start=1)
        for name, figures in (("found", turn.get("search", {})), ("trained", turn.get("training", {})))
    ]


def _margins(turns: list[dict[str, Any]]) -> list[tuple[str, list[float | None]]]:
    return [
        (f"turn {number}", [turn.get("training", {}).get("margin_first"), turn.get("training", {}).get("margin")])
        for number, turn in enumerate(turns, start=1)
    ]


def _losses(rounds: list, turns: list, report: dict[str, Any]) -> list[tuple[str, list[float | None]]]:
    found = [("phase 1", report["phases"].get("distill", {}).get("training") or {})]
    found += [(f"phase 2, round {n}", r.get("training") or {}) for n, r in enumerate(rounds, start=1)]
    found += [(f"phase 3, turn {n}", t.get("training") or {}) for n, t in enumerate(turns, start=1)]
    return [(name, [figures.get("loss_first"), figures.get("loss")]) for name, figures in found]
