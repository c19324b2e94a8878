"""The report of a job as markdown, as docs/results.md shows it."""

from typing import Any

from services.local.report_screen import (
    WINS,
    WINS_OF_FINAL,
    costs_by_phase,
    label,
    phase_lines,
    prompts_of,
    record_of,
    row_label,
    unmarked,
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
            *filter(None, ["\n".join(f"- {warning}" for warning in _warnings(report))]),
            _table(
                [f"gain of {label(final['name'])} over", *(label(g) for g in graders), WINS_OF_FINAL], _final(report)
            ),
            _table(["phase", "decision", f"gain in {label(primary)} on dev"], decisions),
            "\n".join(f"- {line}" for line in phase_lines(report["phases"])),
            _table(["", "calls", "tokens in", "tokens out", "busy seconds"], costs),
            *filter(None, [prompts_of(report)]),
        ]
    )


def _final(report: dict[str, Any]) -> list[list[str]]:
    """The final model's paired gains over base and baselines, by every grader; earlier reports have them by one alone."""
    final, primary, graders = report["final"], report["primary_metric"], report["table"][0]["metrics"]
    by_metric = final.get("by_metric") or {name: {primary: gain} for name, gain in final["over"].items()}
    return [
        [
            label(name),
            *(plain_gain(gains[g]) if g in gains else "" for g in graders),
            record_of(final["record"][name]) if name in final.get("record", {}) else "",
        ]
        for name, gains in by_metric.items()
    ]


def _warnings(report: dict[str, Any]) -> list[str]:
    """Of the data and the intervals, and of the judge."""
    judged = (report.get("judged") or {}).get("judge", {})
    return [
        *report.get("warnings", []),
        *(report.get("judge") or {}).get("warnings", []),
        *judged.get("warnings", []),
    ]


def plain_triple(triple: list[float], sign: str = "") -> str:
    value, low, high = triple
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def plain_gain(triple: list[float]) -> str:
    """An interval of no width is a student against itself: no gain was measured."""
    return plain_triple(triple, "+") if triple[1] < triple[2] else "-"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
