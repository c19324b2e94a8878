"""The report of a job as markdown, as docs/results.md shows it."""

from typing import Any

from shared.report_words import (
    WINS,
    WINS_OF_FINAL,
    costs_by_phase,
    final_gains,
    label,
    phase_lines,
    plain_gain,
    plain_triple,
    prompts_of,
    row_label,
    unmarked,
    warnings_of,
    what_measured,
    wins,
)


def as_markdown(report: dict[str, Any]) -> str:
    """The verdict, the table on the test split, the final model against every other, the decisions, what each phase did, and
    the costs by phase, as docs/results.md shows them."""
    primary, graders = report["primary_metric"], list(report["table"][0]["metrics"])
    head = ["", *(label(g) for g in graders), f"gain in {label(primary)} over base", WINS]
    rows = [
        [
            row_label(row),
            *(plain_triple(row["metrics"][g]) for g in graders),
            plain_gain(row["gain_over_base"]),
            wins(row),
        ]
        for row in report["table"]
    ]
    decisions = [[label(d["phase"]), d["decision"], plain_gain(d["gain_on_dev"])] for d in report["decisions"]]
    costs = []
    for phase, used, seconds in costs_by_phase(report):
        counts = [str(used.get(k, 0)) for k in ("teacher_calls", "input_tokens", "output_tokens")]
        costs.append([label(phase), *counts, f"{seconds:.0f}"])
    final = report["final"]
    return "\n\n".join(
        [
            *filter(None, [report.get("verdict", {}).get("words"), what_measured(report)]),
            _table(head, rows),
            *unmarked(report),
            *filter(None, ["\n".join(f"- {warning}" for warning in warnings_of(report))]),
            _table(
                [f"gain of {label(final['name'])} over", *(label(g) for g in graders), WINS_OF_FINAL],
                final_gains(report),
            ),
            _table(["phase", "decision", f"gain in {label(primary)} on dev"], decisions),
            "\n".join(f"- {line}" for line in phase_lines(report["phases"])),
            _table(["", "calls", "tokens in", "tokens out", "busy seconds"], costs),
            *filter(None, [prompts_of(report)]),
        ]
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
