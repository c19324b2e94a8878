"""The report of a job: one JSON object, kept as an artifact. The clock stands apart in `timings`."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from statistics import stdev
from typing import Any

from services.orchestrator.method import cut_off
from services.orchestrator.method.context import JobContext
from services.orchestrator.method.decide import PhaseOutcome
from services.orchestrator.method.evaluate import BASE, EvalResult, TestTable
from shared.contracts.adapter_check import KEY, AdapterCheck
from shared.contracts.data import Question, Split, group_key
from shared.contracts.distillation import BASELINE_NAMES, JUDGE, Phase
from shared.contracts.grader_kinds import BINARY_GRADERS
from shared.contracts.report import (
    DataQuality,
    DevResult,
    JudgedComparison,
    JudgeReplies,
    JudgeReport,
    MaterialShown,
    Measuring,
    PhaseDecision,
    PhaseRecords,
    Power,
    Promotion,
    Report,
    ReportVerdict,
    RoundRecord,
    SampleAnswers,
    Timing,
    TrainingFigures,
)
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import STEP_KINDS
from shared.evaluation.parts import undivided
from shared.evaluation.statistics import Interval, caution, power, questions_needed
from shared.jobs.records import StepRecord
from shared.reporting.words import LIKENESS

UNCLEAN_MOST = 0.1  # share of the judge's replies that were no plain JSON, from which a warning is given
SAMPLES = 3
SHOWN = 3
MEASURED = (Split.DEV, Split.TEST)


@dataclass(frozen=True)
class Outcome:
    """What a job has come to. table: on test. base, final: base and final model on test; on_dev: the final model on dev.
    comparisons: how the comparisons went, where the judge measured. judge, judged: the judge against human preferences, and the
    final model against the base by the judge."""

    table: TestTable
    verdict: ReportVerdict
    base: EvalResult
    final: EvalResult
    on_dev: EvalResult
    phases: Sequence[PhaseOutcome]
    records: PhaseRecords
    comparisons: Mapping[str, int]
    judge: JudgeReport
    judged: JudgedComparison | None
    promotion: Promotion


def build_report(ctx: JobContext, outcome: Outcome, job_id: str, steps: Sequence[StepRecord]) -> Report:
    """steps: all of the job."""
    base, final, on_dev, primary = outcome.base, outcome.final, outcome.on_dev, ctx.metric
    data = data_quality(ctx)
    measured_by = JUDGE if ctx.judge_measures else "references"
    answered = zip(ctx.measured[Split.TEST], base.answers, final.answers, strict=True)
    gains = [after - before for before, after in zip(base.scores[primary], final.scores[primary], strict=True)]
    made = Report(
        job=job_id,
        domain=ctx.spec.domain,
        student=ctx.base.base,
        method=ctx.spec.adapter.method.value,
        seed=ctx.seed,
        prompts={kind.value: spec.version for kind, spec in STEP_KINDS.items() if spec.prompted},
        primary_metric=primary,
        measured=Measuring(by=measured_by, without_reference=data.without_reference, **outcome.comparisons),
        rows={split.value: len(rows) for split, rows in ctx.splits.items()},
        data=data,
        warnings=[*warnings(ctx, data, outcome.records), *_cut_off_warnings(outcome)],
        table=list(outcome.table.rows),
        final=outcome.table.final,
        dev=dev_result(ctx, on_dev),
        verdict=outcome.verdict,
        decisions=[
            PhaseDecision(
                phase=phase.phase.value,
                decision=phase.gain.decision,
                gain_on_dev=phase.gain.rounded(),
                against=phase.against,
                n=phase.gain.n,
                record=phase.record,
            )
            for phase in outcome.phases
        ],
        judged=outcome.judged,
        judge=with_replies(outcome.judge, ctx.figures),
        promotion=outcome.promotion,
        power=power_of(gains, is_base=final.model == base.model),
        phases=outcome.records,
        teacher=dict(ctx.usage_by_phase()),
        timings=timings(steps),
        samples=[
            SampleAnswers(question=q.text, reference=q.reference, base=before, final=after)
            for q, before, after in islice(answered, SAMPLES)
        ],
    )
    absent = {"refused": list(ctx.refused_rows()), "material": material_shown(ctx)}  # where there is none
    return made.model_copy(update={name: value for name, value in absent.items() if value})


def material_shown(ctx: JobContext) -> MaterialShown | None:
    rows = sum(question.teacher_context is not None for shard in ctx.shards.values() for question in shard)
    digests, size = ctx.material
    return MaterialShown(texts=list(digests), bytes=size, rows=rows) if digests or rows else None


def dev_result(ctx: JobContext, on_dev: EvalResult) -> DevResult:
    value, scores = on_dev.value(ctx.metric).rounded(), on_dev.scores[ctx.metric]
    whole = DevResult(n=len(scores), value=value, scores=scores)
    return whole.model_copy(update={"chosen_on": len(ctx.choice), "places": [*ctx.places]}) if ctx.choice else whole


def with_replies(judge: JudgeReport, figures: Mapping[StepKey, Mapping[str, Any]]) -> JudgeReport:
    """The judge's report with how its replies were to read, summed over the steps that asked it."""
    asked = [counts for counts in figures.values() if "mended" in counts and counts.get("calls")]
    if not asked:
        return judge
    replies = JudgeReplies(**{name: sum(counts.get(name, 0) for counts in asked) for name in JudgeReplies.model_fields})
    warnings = list(judge.warnings)
    if replies.mended + replies.repairs > UNCLEAN_MOST * replies.calls:
        warnings.append(
            f"of the judge's {replies.calls} replies {replies.mended} had slips that were read as they are meant, and "
            f"{replies.repairs} could not be read and were asked for again ({replies.cut_off} cut off at judge.max_tokens, "
            f"{replies.empty} empty)"
        )
    return judge.model_copy(update={"replies": replies, "warnings": warnings})


def power_of(gains: Sequence[float], is_base: bool) -> Power:
    """What so many test questions can tell, by the default spread of a gain and by the one that was measured here.

    gains: of the final model over the base, question by question; they have no spread where it is the base.
    """
    n = len(gains)
    spread = stdev(gains) if n > 1 and not is_base else None
    return Power(
        n=n,
        chance_to_see_5_points=round(power(n), 2),
        measured_spread=None if spread is None else round(spread, 4),
        chance_by_measured_spread=None if spread is None else round(power(n, spread=spread), 2),
        questions_for_80_percent=None if spread is None else questions_needed(spread),
    )


def timings(steps: Sequence[StepRecord]) -> dict[str, Timing]:
    """Per phase: seconds from its first step's start to its last step's end, and its number of steps."""
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in steps:
        if row.started_at and row.finished_at:
            key = StepKey.parse(row.key)
            name = "sft_references" if key.is_baseline and key.action == "train" else key.phase
            spans[name].append((row.started_at, row.finished_at))
    return {name: Timing(busy_seconds=round(_union(times), 1), steps=len(times)) for name, times in spans.items()}


def _union(spans: list[tuple[float, float]]) -> float:
    """Total length of overlapping intervals, in their own unit."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def verdict_of(gains: Mapping[str, Interval], is_base: bool) -> ReportVerdict:
    """What the table comes to. gains: of the final model over the base and the baselines. is_base: it is the base."""
    over_base = gains[BASE]
    over_baselines = {name: gain for name, gain in gains.items() if name in BASELINE_NAMES}
    return ReportVerdict(
        beats_base=over_base.low > 0,
        beaten=[name for name, gain in over_baselines.items() if gain.low > 0],
        not_beaten=[name for name, gain in over_baselines.items() if gain.low <= 0],
        words=_sentence(is_base, over_base, over_baselines),
    )


def _sentence(is_base: bool, over_base: Interval, gains: dict[str, Interval]) -> str:
    if is_base:
        return "No phase improved on the base, which stays the final model."
    if over_base.low <= 0:
        return f"The final model is {_standing(over_base)} the base on the test split: no gain is shown."
    if not gains:
        return (
            "The final model beats the base on the test split. No baseline was measured beside it, so it is "
            "unknown whether examples in the base's prompt would gain as much."
        )
    unbeaten = [f"{BASELINE_NAMES[name]} ({_standing(gain)} it)" for name, gain in gains.items() if gain.low <= 0]
    if unbeaten:
        return (
            f"The final model beats the base on the test split, but not: {'; '.join(unbeaten)}. A gain that does not beat "
            "these proves nothing."
        )
    return f"The final model beats the base on the test split, and also: {'; '.join(BASELINE_NAMES[n] for n in gains)}."


def _standing(gain: Interval) -> str:
    return "worse than" if gain.high < 0 else "not told apart from"


def conflicting(splits: Sequence[Sequence[Question]]) -> list[list[str]]:
    """Ids of rows that ask the same in the same words and have different references, group by group. Reads the rows once for their
    hashes, and once more where there are such groups; what is kept of a row is a number."""

    def told() -> Iterator[tuple[int, Question]]:
        for row in chain.from_iterable(splits):
            if row.reference:
                yield _number(row.text.casefold()), row

    first: dict[int, int] = {}
    several = {key for key, row in told() if first.setdefault(key, (said := _number(row.reference or ""))) != said}
    groups: dict[int, list[str]] = {}
    if several:
        for key, row in told():
            if key in several:
                groups.setdefault(key, []).append(row.id)
    return list(groups.values())


def _number(text: str) -> int:
    """Of its words, in 64 bits."""
    return int.from_bytes(hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest())


def data_quality(ctx: JobContext) -> DataQuality:
    """What the job's rows are worth: how many have no reference, and which contradict one another."""
    conflicts = conflicting([*ctx.splits.values()])
    bare = {split.value: sum(not row.reference for row in rows) for split, rows in ctx.splits.items()}
    return DataQuality(
        without_reference=bare,
        conflicting_references=len(conflicts),
        conflicting_ids=conflicts[:SHOWN],
        files=[*ctx.files],
    )


def warnings(ctx: JobContext, data: DataQuality, records: PhaseRecords) -> list[str]:
    """What a reader must know before trusting the report: its data, its intervals, what training could not use."""
    rounds = [(f"round {number}", record) for number, record in enumerate(records.rounds, start=1)]
    turns = [(f"turn {number}", record.training) for number, record in enumerate(records.turns, start=1)]
    return [
        *_data_warnings(ctx, data),
        *_interval_warnings(ctx, records.pilot.compared if records.pilot else None),
        *_verdict_warnings(rounds),
        *(f"{name}: {drawn.gate_words}" for name, drawn in records.sampled() if drawn.gate_closed),
        *_thought_warnings(ctx),
        *adapter_warnings(ctx.figures.values()),
        *_grader_warnings(ctx),
        *(_training_warnings("phase 1", records.distill.training) if records.distill else []),
        *(warning for name, record in rounds for warning in _round_warnings(name, record)),
        *(warning for name, training in turns for warning in _training_warnings(name, training)),
    ]


def _data_warnings(ctx: JobContext, data: DataQuality) -> list[str]:
    lines = []
    for split, use in ((Split.DEV, "decisions rest"), (Split.TEST, "the table rests")):
        missing, n = data.without_reference[split.value], len(ctx.splits[split])
        if missing and not ctx.judge_measures:
            lines.append(
                f"{missing} of {n} {split.value} questions have no reference: {use} on the other {n - missing}"
            )
        if split is Split.DEV and ctx.spec.chooses and not ctx.choice:
            lines.append(undivided(len(ctx.places)))
        if groups := _groups(ctx.measured[split]):
            lines.append(
                f"the {split.value} split's {len(ctx.measured[split])} measured questions are {groups} groups (one passage, "
                "conversation, query or question each): its intervals count groups, as answers in a group are right or wrong together"
            )
    for file in data.files:
        if file.left:
            shared = ", ".join(f"{LIKENESS.get(kind, kind)} {count}" for kind, count in file.left.items())
            lines.append(
                f"rows of dev and test of {file.file} have something in common with a row of another split ({shared}): what is measured on "
                "them may be learned by heart"
            )
    if data.conflicting_references:
        first = ", ".join(data.conflicting_ids[0])
        lines.append(
            f"questions asked more than once with different references: {data.conflicting_references} ({first}); "
            "at most one of the answers can be counted as right each time"
        )
    return lines


def _cut_off_warnings(outcome: Outcome) -> list[str]:
    """What was not learned, or counts as it stands, because it ended at its limit of tokens, where that is a noticeable share."""
    records = outcome.records
    phases = [("pilot", records.pilot), *((phase.value, getattr(records, phase.value)) for phase in Phase)]
    counted = chain(
        *(cut_off.counted(name, record) for name, record in phases if record), cut_off.of_table(outcome.table.rows)
    )
    return [one.words for one in counted if one.noticeable]


def _grader_warnings(ctx: JobContext) -> list[str]:
    """What the job's graders could not grade, over all steps."""
    graded = [figures for key, figures in ctx.figures.items() if not key.is_baseline]
    ungradable, failed = (sum(figures.get(name, 0) for figures in graded) for name in ("ungradable", "grader_failed"))
    return [
        *(
            [f"{ungradable} gradings had a reference that the grader cannot read; they count as wrong"]
            if ungradable
            else []
        ),
        *(
            [
                f"a grader failed at {failed} answers (too slow, too much memory, an error of its own); they count as wrong"
            ]
            if failed
            else []
        ),
    ]


def _groups(questions: Sequence[Question]) -> int:
    """How many groups the questions are; 0 where each stands by itself."""
    groups = {group_key(question) for question in questions}
    return len(groups) if len(groups) < len(questions) else 0


def _interval_warnings(ctx: JobContext, compared: int | None) -> list[str]:
    """One line for each set of rows that is too small for its intervals. compared: questions of the pilot's gain, which is a
    mean whatever the metric, as is what the judge measures."""
    is_share = ctx.metric in BINARY_GRADERS and not ctx.judge_measures
    sets = [(f"{split.value} split", is_share, len(ctx.measured[split])) for split in MEASURED]
    if compared is not None:
        sets.append(("pilot", False, compared))
    return [f"{name}: {warning}" for name, share, n in sets if (warning := caution(share, n))]


def _verdict_warnings(rounds: Sequence[tuple[str, RoundRecord]]) -> list[str]:
    return [
        f"{name}: {record.unparsed_verdicts} of {sum(record.asked_by_try)} verdicts could not be read; these "
        "answers were not trained on"
        for name, record in rounds
        if 2 * record.unparsed_verdicts > sum(record.asked_by_try)
    ]


def _thought_warnings(ctx: JobContext) -> list[str]:
    """Answers that are empty because they ended inside a thought make the base look worse than it is."""
    counted = [figures for figures in ctx.figures.values() if "cut_in_thought" in figures]
    cut, n = (sum(figures[name] for figures in counted) for name in ("cut_in_thought", "n"))
    if not cut:
        return []
    return [
        f"{cut} of {n} answers of the student ended inside a thought and count as empty: raise "
        "distillation.answer_tokens, or turn thoughts off in METEOR_STUDENT_TEMPLATE_ARGS"
    ]


def adapter_warnings(figures: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each adapter that the engine answers with differently than the trainer, and for each reason why that is unknown.

    figures: what the workers of the steps counted.
    """
    checks = [AdapterCheck.model_validate(counts[KEY]) for counts in figures if KEY in counts]
    differing = {check.adapter: check for check in checks if check.state == "differs"}
    unchecked = defaultdict(set)
    for check in checks:
        if check.state == "unchecked":
            unchecked[check.reason].add(check.adapter)
    counted = Counter(check.adapter for check in checks if check.state == "differs")
    lines = [
        f"adapter {adapter[:12]} in the engine: {check.reason} (seen by {counted[adapter]} steps); its scores are not those of "
        "what was trained"
        for adapter, check in differing.items()
    ]
    return lines + [
        f"{len(adapters)} adapters were not compared between trainer and engine: {reason}"
        for reason, adapters in unchecked.items()
    ]


def _training_warnings(name: str, training: TrainingFigures | None) -> list[str]:
    """Rows that were kept, paid for, and then too long to train on."""
    dropped = training.dropped_too_long if training else None
    return [f"{name}: {dropped} rows are longer than adapter.max_length and were not trained on"] if dropped else []


def _round_warnings(name: str, record: RoundRecord) -> list[str]:
    count = record.too_long + (record.sampled.too_long if record.sampled else 0)
    too_long = f"{name}: {count} questions do not fit into the student's context and were not answered"
    return [*_training_warnings(name, record.training), *([too_long] if count else [])]
