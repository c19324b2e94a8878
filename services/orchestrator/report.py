"""The report of a job: one JSON object, kept as an artifact. What happened at which time stands apart in `timings`."""

from collections import defaultdict
from statistics import stdev
from typing import Any

from services.orchestrator.cautions import data_of, warnings
from services.orchestrator.judged import judged
from services.orchestrator.preferred import what_measures
from services.orchestrator.results import Candidate, Measured, triple
from services.orchestrator.run import Run
from services.orchestrator.verdict import verdict
from shared.contracts.data import Split
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import STEP_KINDS
from shared.evaluation.statistics import power, questions_needed

SAMPLES = 3


def table_row(measured: Measured, base: Measured, primary: str) -> dict[str, Any]:
    """One line of the final table: per grader the value with its 95 % interval, and the paired gain over the base.

    draws: over so many random draws of worked examples the scores are averaged.
    too_long: so many questions do not fit into its context and count as wrong. missing_markers: so many answers came without
    the rationale and the marker that it was trained to write before them; None where it was not.
    scores: the primary metric per question, in the test split's order, so that reports can be compared with each other.
    """
    return {
        "name": measured.name,
        "adapter": measured.model.tuned,
        "n": len(measured.answers),
        "draws": measured.draws,
        "metrics": {grader: triple(measured.value(grader)) for grader in measured.scores},
        "gain_over_base": triple(measured.gain_over(base, primary)),
        "too_long": measured.too_long,
        "missing_markers": measured.missing_markers,
        "against_base": measured.record_against(base, primary),
        "scores": measured.scores[primary],
    }


def power_of(final: Measured, base: Measured, primary: str) -> dict[str, Any]:
    """What so many test questions can tell, by the default spread of a gain and by the one that was measured here.

    questions_for_80_percent: so many would show a true gain of 5 points in four of five runs.
    """
    n = len(final.answers)
    gains = [after - before for before, after in zip(base.scores[primary], final.scores[primary], strict=True)]
    spread = stdev(gains) if len(gains) > 1 and final.model != base.model else None
    return {
        "n": n,
        "chance_to_see_5_points": round(power(n), 2),
        "measured_spread": None if spread is None else round(spread, 4),
        "chance_by_measured_spread": None if spread is None else round(power(n, spread=spread), 2),
        "questions_for_80_percent": None if spread is None else questions_needed(spread),
    }


def timings(rows: list) -> dict[str, dict[str, float]]:
    """Per phase: seconds from its first step's start to its last step's end, and its number of steps."""
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        if row.started_at and row.finished_at:
            key = StepKey.parse(row.key)
            name = "sft_references" if key.is_baseline and key.action == "train" else key.phase
            spans[name].append((row.started_at, row.finished_at))
    return {name: {"busy_seconds": round(_union(times), 1), "steps": len(times)} for name, times in spans.items()}


def _union(spans: list[tuple[float, float]]) -> float:
    """Total length of overlapping intervals, in their own unit."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def final_row(final: Measured, table: list[Measured], primary: str) -> dict[str, Any]:
    """The final model against every other row of the table: paired gains, by the primary metric and by every grader."""
    others = [row for row in table if row.name != final.name]
    return {
        "name": final.name,
        "adapter": final.model.tuned,
        "over": {m.name: triple(final.gain_over(m, primary)) for m in others},
        "by_metric": {m.name: {g: triple(final.gain_over(m, g)) for g in final.scores} for m in others},
        "record": {m.name: final.record_against(m, primary) for m in others},
    }


async def build_report(
    run: Run,
    table: list[Measured],
    candidates: list[Candidate],
    final: Measured,
    on_dev: Measured,
    promotion: dict[str, Any],
) -> dict[str, Any]:
    """final, on_dev: the job's last student on test and on dev."""
    base, primary = table[0], run.metric
    questions = run.measured(Split.TEST)
    in_the_judges_eyes = await judged(run, questions, base, final)
    data = data_of(run)
    return {
        "object": "distillation.report",
        "job": run.job.id,
        "domain": run.spec.domain,
        "student": run.base.base,
        "method": run.spec.adapter.method.value,
        "seed": run.seed,
        "prompts": {kind.value: known.version for kind, known in STEP_KINDS.items() if known.prompted},
        "primary_metric": primary,
        "measured": what_measures(run),
        "rows": {split.value: len(run.split(split)) for split in Split},
        "data": data,
        "warnings": warnings(run, data),
        "table": [table_row(row, base, primary) for row in table],
        "final": final_row(final, table, primary),
        "dev": {
            "n": len(on_dev.answers),
            "value": triple(on_dev.value(primary)),
            "scores": on_dev.scores[primary],  # experiments compare variants by these
        },
        "verdict": verdict(final, table, primary),
        "decisions": [{"phase": c.phase, "decision": c.decision, "gain_on_dev": triple(c.gain)} for c in candidates],
        "judged": in_the_judges_eyes,
        "judge": run.judge,
        "promotion": promotion,
        "power": power_of(final, base, primary),
        "phases": run.records,
        "teacher": {phase: usage.model_dump() for phase, usage in run.ledger.usage_by_phase(run.job.id).items()},
        "timings": timings(run.stores.steps.of_job(run.job.id)),
        "samples": [
            {"question": q.text, "reference": q.reference, "base": base.answers[i], "final": final.answers[i]}
            for i, q in enumerate(questions[:SAMPLES])
        ],
    }
