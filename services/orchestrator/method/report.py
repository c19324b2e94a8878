"""The report of a job: one JSON object, kept as an artifact. What happened at which time stands apart in `timings`."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import stdev
from typing import Any

from services.orchestrator.method.context import Run
from services.orchestrator.method.evaluate import Candidate, Measured
from services.orchestrator.method.judging import judged, what_measures
from shared.contracts.data import Question, Split
from shared.contracts.distillation import BASELINE_NAMES, SHARES
from shared.contracts.steps import PROMPTED, VERSION
from shared.evaluation.statistics import Interval, caution, power, questions_needed

SAMPLES = 3
SHOWN = 3
MEASURED = (Split.DEV, Split.TEST)


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
        "metrics": {grader: measured.value(grader).rounded() for grader in measured.scores},
        "gain_over_base": measured.gain_over(base, primary).rounded(),
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
            name = row.key.partition("/")[0]
            spans[name if not row.key.startswith("evaluate/sft") else "sft_references"].append(
                (row.started_at, row.finished_at)
            )
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
        "over": {m.name: final.gain_over(m, primary).rounded() for m in others},
        "by_metric": {m.name: {g: final.gain_over(m, g).rounded() for g in final.scores} for m in others},
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
    in_the_judges_eyes = (
        None
        if final.model == base.model
        else await judged(run, questions, base.answers, final.answers, better_by_references(run, base, final))
    )
    data = data_of(run)
    return {
        "object": "distillation.report",
        "job": run.job.id,
        "domain": run.spec.domain,
        "student": run.base.base,
        "method": run.spec.adapter.method.value,
        "seed": run.seed,
        "prompts": {kind.value: VERSION[kind] for kind in PROMPTED},
        "primary_metric": primary,
        "measured": what_measures(run),
        "rows": {split.value: len(run.split(split)) for split in Split},
        "data": data,
        "warnings": warnings(run, data),
        "table": [table_row(row, base, primary) for row in table],
        "final": final_row(final, table, primary),
        "dev": {
            "n": len(on_dev.answers),
            "value": on_dev.value(primary).rounded(),
            "scores": on_dev.scores[primary],  # experiments compare variants by these
        },
        "verdict": verdict(final, table, primary),
        "decisions": [{"phase": c.phase, "decision": c.decision, "gain_on_dev": c.gain.rounded()} for c in candidates],
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


def verdict(final: Measured, table: Sequence[Measured], metric: str) -> dict[str, Any]:
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


def data_of(run: Run) -> dict[str, Any]:
    """What the job's rows are worth: how many have no reference, and which contradict one another."""
    found = conflicting(row for split in Split for row in run.split(split))
    return {
        "without_reference": {split.value: sum(not row.reference for row in run.split(split)) for split in Split},
        "conflicting_references": len(found),
        "conflicting_ids": found[:SHOWN],
    }


def warnings(run: Run, data: dict[str, Any]) -> list[str]:
    return [*_of_data(run, data), *_of_intervals(run), *_of_verdicts(run.records), *_of_lengths(run.records)]


def _of_data(run: Run, data: dict[str, Any]) -> list[str]:
    found = []
    for split, use in ((Split.DEV, "decisions rest"), (Split.TEST, "the table rests")):
        missing, n = data["without_reference"][split.value], len(run.split(split))
        if missing and not run.judge_measures:
            found.append(
                f"{missing} of {n} {split.value} questions have no reference: {use} on the other {n - missing}"
            )
    if data["conflicting_references"]:
        first = ", ".join(data["conflicting_ids"][0])
        found.append(
            f"questions asked more than once with different references: {data['conflicting_references']} ({first}); "
            "at most one of the answers can be counted as right each time"
        )
    return found


def _of_intervals(run: Run) -> list[str]:
    """One line for each set of rows that is too small for its intervals. The pilot's gain is a mean whatever the metric,
    and so is what the judge measures, which needs no references."""
    is_share = run.spec.primary_metric in SHARES and not run.judge_measures
    sets = [(f"{split.value} split", is_share, len(run.measured(split))) for split in MEASURED]
    if (compared := run.records.get("pilot", {}).get("compared")) is not None:
        sets.append(("pilot", False, compared))
    return [f"{name}: {said}" for name, share, n in sets if (said := caution(share, n))]


def _of_verdicts(records: dict[str, Any]) -> list[str]:
    found = []
    for number, record in enumerate(records.get("iterate", {}).get("rounds", []), start=1):
        asked, unparsed = sum(record["asked_by_try"]), record["unparsed_verdicts"]
        if 2 * unparsed > asked:
            found.append(
                f"round {number}: {unparsed} of {asked} verdicts could not be read; what the judge did not pass in words "
                "that can be read was not trained on"
            )
    return found


def _of_lengths(records: dict[str, Any]) -> list[str]:
    """Rows that were kept, paid for, and then too long to train on."""
    parts: Sequence[tuple[str, dict[str, Any]]] = [
        ("phase 1", records.get("distill", {})),
        *((f"round {i}", record) for i, record in enumerate(records.get("iterate", {}).get("rounds", []), start=1)),
        *((f"turn {i}", record) for i, record in enumerate(records.get("evolve", {}).get("turns", []), start=1)),
    ]
    found = []
    for name, record in parts:
        if dropped := record.get("training", {}).get("dropped_too_long"):
            found.append(f"{name}: {dropped} rows are longer than adapter.max_length and were not trained on")
        if unread := record.get("too_long"):
            found.append(f"{name}: {unread} questions do not fit into the student's context and were not answered")
    return found


def better_by_references(run: Run, base: Measured, final: Measured) -> list[str] | None:
    """Per question which answer the primary metric finds better; None where that is the judge's own word."""
    if run.judge_measures:
        return None
    pairs = zip(base.scores[run.metric], final.scores[run.metric], strict=True)
    return ["tie" if before == after else "second" if after > before else "first" for before, after in pairs]
