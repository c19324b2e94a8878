"""The report of a job: one JSON object, kept as an artifact. The clock stands apart in `timings`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Any

from services.orchestrator.method.context import JobContext
from services.orchestrator.method.evaluate import EvalResult, PhaseDecision, measured_by
from shared.contracts.data import Question, Split
from shared.contracts.distillation import BASELINE_NAMES, SHARES
from shared.contracts.jobs import Usage
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import STEP_KINDS
from shared.evaluation.statistics import Interval, caution, power, questions_needed
from shared.jobs.records import StepRecord

SAMPLES = 3
SHOWN = 3
MEASURED = (Split.DEV, Split.TEST)


@dataclass(frozen=True)
class Outcome:
    """What a job has come to. table: the base first. final, on_dev: the job's last student on test and on dev. records: per
    phase its part of the report. judge, judged: the judge against human preferences, and the final model by the judge."""

    table: Sequence[EvalResult]
    final: EvalResult
    on_dev: EvalResult
    decisions: Sequence[PhaseDecision]
    records: Mapping[str, dict[str, Any]]
    judge: dict[str, Any]
    judged: dict[str, Any] | None
    promotion: dict[str, Any]


def build_report(
    ctx: JobContext, outcome: Outcome, job_id: str, usage: Mapping[str, Usage], steps: Sequence[StepRecord]
) -> dict[str, Any]:
    """usage: by phase what strong models were asked. steps: all of the job."""
    table, final, on_dev, primary = outcome.table, outcome.final, outcome.on_dev, ctx.metric
    base, questions = table[0], ctx.measured[Split.TEST]
    data = data_of(ctx)
    return {
        "object": "distillation.report",
        "job": job_id,
        "domain": ctx.spec.domain,
        "student": ctx.base.base,
        "method": ctx.spec.adapter.method.value,
        "seed": ctx.seed,
        "prompts": {kind.value: spec.version for kind, spec in STEP_KINDS.items() if spec.prompted},
        "primary_metric": primary,
        "measured": measured_by(ctx),
        "rows": {split.value: len(rows) for split, rows in ctx.splits.items()},
        "data": data,
        "warnings": warnings(ctx, data, outcome.records),
        "table": [table_row(row, base, primary) for row in table],
        "final": final_row(final, table, primary),
        "dev": {
            "n": len(on_dev.answers),
            "value": on_dev.value(primary).rounded(),
            "scores": on_dev.scores[primary],  # experiments compare variants by these
        },
        "verdict": verdict(final, table, primary),
        "decisions": [
            {"phase": d.phase.value, "decision": d.decision, "gain_on_dev": d.gain.rounded()} for d in outcome.decisions
        ],
        "judged": outcome.judged,
        "judge": outcome.judge,
        "promotion": outcome.promotion,
        "power": power_of(final, base, primary),
        "phases": outcome.records,
        "teacher": {phase: spent.model_dump() for phase, spent in usage.items()},
        "timings": timings(steps),
        "samples": [
            {"question": q.text, "reference": q.reference, "base": before, "final": after}
            for q, before, after in list(zip(questions, base.answers, final.answers, strict=True))[:SAMPLES]
        ],
    }


def table_row(measured: EvalResult, base: EvalResult, primary: str) -> dict[str, Any]:
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
        "metrics": {grader: measured.value(grader).rounded() for grader in measured.scores},
        "gain_over_base": measured.gain_over(base, primary).rounded(),
        "too_long": measured.too_long,
        "missing_markers": measured.missing_markers,
        "against_base": measured.record_against(base, primary),
        "scores": measured.scores[primary],
    }


def power_of(final: EvalResult, base: EvalResult, primary: str) -> dict[str, Any]:
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


def timings(steps: Sequence[StepRecord]) -> dict[str, dict[str, float]]:
    """Per phase: seconds from its first step's start to its last step's end, and its number of steps."""
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in steps:
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


def final_row(final: EvalResult, table: Sequence[EvalResult], primary: str) -> dict[str, Any]:
    """The final model against every other row of the table: paired gains, by the primary metric and by every grader."""
    others = [row for row in table if row.name != final.name]
    return {
        "name": final.name,
        "adapter": final.model.tuned,
        "over": {m.name: final.gain_over(m, primary).rounded() for m in others},
        "by_metric": {m.name: {g: final.gain_over(m, g).rounded() for g in final.scores} for m in others},
        "record": {m.name: final.record_against(m, primary) for m in others},
    }


def verdict(final: EvalResult, table: Sequence[EvalResult], metric: str) -> dict[str, Any]:
    """table: the base first. beaten, not_beaten: baselines over which the whole interval of the paired gain lies above
    zero, and the others."""
    base = table[0]
    gains = {row.name: final.gain_over(row, metric) for row in table if row.name in BASELINE_NAMES}
    beaten = [name for name, gain in gains.items() if gain.low > 0]
    over_base = final.gain_over(base, metric)
    return {
        "beats_base": over_base.low > 0,
        "beaten": beaten,
        "not_beaten": [name for name in gains if name not in beaten],
        "words": _words(final.model == base.model, over_base, gains),
    }


def _words(is_base: bool, over_base: Interval, gains: dict[str, Interval]) -> str:
    if is_base:
        return "The job has made nothing better than the base, which stays the final model."
    if over_base.low <= 0:
        return f"The final model is {_standing(over_base)} the base on the test split: no gain is shown."
    if not gains:
        return (
            "The final model beats the base on the test split. No baseline was measured beside it, so nobody knows whether "
            "the gain is worth more than examples in the base's prompt."
        )
    open_ones = [f"{BASELINE_NAMES[name]} ({_standing(gain)} it)" for name, gain in gains.items() if gain.low <= 0]
    if open_ones:
        return (
            f"The final model beats the base on the test split, but not: {'; '.join(open_ones)}. A gain that does not beat "
            "these proves nothing."
        )
    return f"The final model beats the base on the test split, and also: {'; '.join(BASELINE_NAMES[n] for n in gains)}."


def _standing(gain: Interval) -> str:
    return "worse than" if gain.high < 0 else "not told apart from"


def conflicting(questions: Iterable[Question]) -> list[list[str]]:
    """Ids of rows that ask the same in the same words and have different references, group by group."""
    groups: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        if question.reference:
            groups[" ".join(question.text.casefold().split())].append(question)
    return [
        [row.id for row in rows]
        for rows in groups.values()
        if len({" ".join((row.reference or "").split()) for row in rows}) > 1
    ]


def data_of(ctx: JobContext) -> dict[str, Any]:
    """What the job's rows are worth: how many have no reference, and which contradict one another."""
    conflicts = conflicting(row for rows in ctx.splits.values() for row in rows)
    return {
        "without_reference": {
            split.value: sum(not row.reference for row in rows) for split, rows in ctx.splits.items()
        },
        "conflicting_references": len(conflicts),
        "conflicting_ids": conflicts[:SHOWN],
    }


def warnings(ctx: JobContext, data: Mapping[str, Any], records: Mapping[str, dict[str, Any]]) -> list[str]:
    """What a reader must know before trusting the report: its data, its intervals, what training could not use."""
    rounds = [(f"round {i}", r) for i, r in enumerate(records.get("iterate", {}).get("rounds", []), start=1)]
    iterations = [(f"turn {i}", r) for i, r in enumerate(records.get("evolve", {}).get("turns", []), start=1)]
    trainings = [("phase 1", records.get("distill", {})), *rounds, *iterations]
    compared = records.get("pilot", {}).get("compared")
    return [
        *_of_data(ctx, data),
        *_of_intervals(ctx, compared),
        *_of_verdicts(rounds),
        *(warning for name, record in trainings for warning in _of_lengths(name, record)),
    ]


def _of_data(ctx: JobContext, data: Mapping[str, Any]) -> list[str]:
    lines = []
    for split, use in ((Split.DEV, "decisions rest"), (Split.TEST, "the table rests")):
        missing, n = data["without_reference"][split.value], len(ctx.splits[split])
        if missing and not ctx.judge_measures:
            lines.append(
                f"{missing} of {n} {split.value} questions have no reference: {use} on the other {n - missing}"
            )
    if data["conflicting_references"]:
        first = ", ".join(data["conflicting_ids"][0])
        lines.append(
            f"questions asked more than once with different references: {data['conflicting_references']} ({first}); "
            "at most one of the answers can be counted as right each time"
        )
    return lines


def _of_intervals(ctx: JobContext, compared: int | None) -> list[str]:
    """One line for each set of rows that is too small for its intervals. compared: questions of the pilot's gain, which is a
    mean whatever the metric, as is what the judge measures."""
    is_share = ctx.spec.primary_metric in SHARES and not ctx.judge_measures
    sets = [(f"{split.value} split", is_share, len(ctx.measured[split])) for split in MEASURED]
    if compared is not None:
        sets.append(("pilot", False, compared))
    return [f"{name}: {warning}" for name, share, n in sets if (warning := caution(share, n))]


def _of_verdicts(rounds: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    return [
        f"{name}: {record['unparsed_verdicts']} of {sum(record['asked_by_try'])} verdicts could not be read; what the judge "
        "did not pass in words that can be read was not trained on"
        for name, record in rounds
        if 2 * record["unparsed_verdicts"] > sum(record["asked_by_try"])
    ]


def _of_lengths(name: str, record: dict[str, Any]) -> list[str]:
    """Rows that were kept, paid for, and then too long to train on."""
    lines = []
    if dropped := record.get("training", {}).get("dropped_too_long"):
        lines.append(f"{name}: {dropped} rows are longer than adapter.max_length and were not trained on")
    if too_long := record.get("too_long"):
        lines.append(f"{name}: {too_long} questions do not fit into the student's context and were not answered")
    return lines


def better_by_metric(base: EvalResult, final: EvalResult, metric: str) -> list[str]:
    """Per question which answer a metric finds better."""
    pairs = zip(base.scores[metric], final.scores[metric], strict=True)
    return ["tie" if before == after else "second" if after > before else "first" for before, after in pairs]
