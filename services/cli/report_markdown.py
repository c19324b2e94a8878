"""The report of a job as Markdown, as docs/results.md shows it."""

from shared.contracts.report import Report
from shared.reporting.tables import TextTable, decisions, final_against_others, scores
from shared.reporting.words import (
    costs_by_phase,
    label,
    missing_markers,
    phase_lines,
    prompts_of,
    warnings_of,
    what_measured,
)


def as_markdown(report: Report) -> str:
    costs = [
        [label(phase), str(used.teacher_calls), str(used.input_tokens), str(used.output_tokens), f"{seconds:.0f}"]
        for phase, used, seconds in costs_by_phase(report)
    ]
    blocks = [
        report.verdict.words if report.verdict else "",
        what_measured(report),
        markdown_table(scores(report)),
        *missing_markers(report),
        "\n".join(f"- {warning}" for warning in warnings_of(report)),
        markdown_table(final_against_others(report)),
        markdown_table(decisions(report)),
        "\n".join(f"- {line}" for line in phase_lines(report.phases)),
        markdown_table(TextTable(["", "calls", "tokens in", "tokens out", "busy seconds"], costs)),
        prompts_of(report),
    ]
    return "\n\n".join(filter(None, blocks))


def markdown_table(table: TextTable) -> str:
    lines = [table.head, ["---"] * len(table.head), *table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
