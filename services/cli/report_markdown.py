"""The report of a job as markdown, as docs/results.md shows it."""

from typing import Any

from shared.reporting.tables import decisions, final_against_others, scores
from shared.reporting.words import costs_by_phase, label, phase_lines, prompts_of, unmarked, warnings_of, what_measured


def as_markdown(report: dict[str, Any]) -> str:
    """The verdict, the table on the test split, the final model against every other, the decisions, what each phase did, and
    the costs by phase, as docs/results.md shows them."""
    costs = []
    for phase, used, seconds in costs_by_phase(report):
        counts = [str(used.get(k, 0)) for k in ("teacher_calls", "input_tokens", "output_tokens")]
        costs.append([label(phase), *counts, f"{seconds:.0f}"])
    return "\n\n".join(
        [
            *filter(None, [report.get("verdict", {}).get("words"), what_measured(report)]),
            _table(*scores(report)),
            *unmarked(report),
            *filter(None, ["\n".join(f"- {warning}" for warning in warnings_of(report))]),
            _table(*final_against_others(report)),
            _table(*decisions(report)),
            "\n".join(f"- {line}" for line in phase_lines(report["phases"])),
            _table(["", "calls", "tokens in", "tokens out", "busy seconds"], costs),
            *filter(None, [prompts_of(report)]),
        ]
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
