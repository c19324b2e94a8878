"""`Reporter`: makes the report of a job, one JSON object, kept as an artifact. The clock stands apart in `timings`."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import stdev
from typing import Any

from services.orchestrator.method.decide import PhaseOutcome
from services.orchestrator.method.evaluate import EvalResult
from services.orchestrator.method.job_data import JobData
from services.orchestrator.method.report_warnings import warnings
from services.orchestrator.method.table import TestTable
from shared.artifacts.material import Material
from shared.contracts.data import Question
from shared.contracts.distillation import JUDGE, Distillation, Phase
from shared.contracts.jobs import Usage
from shared.contracts.phase_records import PhaseRecords
from shared.contracts.refusals import RefusedRow
from shared.contracts.report import (
    DevResult,
    JudgedComparison,
    JudgeReplies,
    JudgeReport,
    MaterialShown,
    Measuring,
    PhaseDecision,
    Power,
    Promotion,
    Report,
    SampleAnswers,
    Timing,
)
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import STEP_KINDS
from shared.evaluation.statistics import power, questions_needed
from shared.jobs.records import StepRecord

UNCLEAN_MOST = 0.1  # share of the judge's replies that were no plain JSON, from which a warning is given
SAMPLES = 3


@dataclass(frozen=True)
class Outcome:
    """What a job has come to. table: on test. base, final: base and final model on test; on_dev: the final model on dev.
    comparisons: how the comparisons went, where the judge measured. judge, judged: the judge against human preferences, and the
    final model against the base by the judge."""

    table: TestTable
    base: EvalResult
    final: EvalResult
    on_dev: EvalResult
    phases: Sequence[PhaseOutcome]
    records: PhaseRecords
    comparisons: Mapping[str, int]
    judge: JudgeReport
    judged: JudgedComparison | None
    promotion: Promotion


@dataclass(frozen=True)
class Reporter:
    """student: the base's name. shards: the questions of the phases. figures: what the workers counted, by step key."""

    spec: Distillation
    student: str
    seed: int
    data: JobData
    shards: Mapping[Phase, Sequence[Question]]
    material: Material
    figures: Mapping[StepKey, Mapping[str, Any]]
    usage_by_phase: Callable[[], Mapping[str, Usage]]
    refused_rows: Callable[[], Sequence[RefusedRow]]

    def build(self, outcome: Outcome, job_id: str, steps: Sequence[StepRecord]) -> Report:
        """steps: all of the job."""
        base, final, records = outcome.base, outcome.final, outcome.records
        data = self.data.quality()
        measured_by = JUDGE if self.data.judge_measures else "references"
        answered = zip(base.questions, base.answers, final.answers, strict=True)
        gains = [
            after - before for before, after in zip(base.scores[base.metric], final.scores[base.metric], strict=True)
        ]
        made = Report(
            job=job_id,
            domain=self.spec.domain,
            student=self.student,
            method=self.spec.adapter.method.value,
            seed=self.seed,
            prompts={kind.value: spec.version for kind, spec in STEP_KINDS.items() if spec.prompted},
            primary_metric=base.metric,
            measured=Measuring(by=measured_by, without_reference=data.without_reference, **outcome.comparisons),
            rows={split.value: len(rows) for split, rows in self.data.splits.items()},
            data=data,
            warnings=[
                *self.data.warnings(data, records.pilot.compared if records.pilot else None),
                *warnings(self.figures, records, outcome.table.rows),
            ],
            table=list(outcome.table.rows),
            final=outcome.table.final,
            dev=self._dev_result(outcome.on_dev),
            verdict=outcome.table.verdict,
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
            judge=with_replies(outcome.judge, self.figures),
            promotion=outcome.promotion,
            power=power_of(gains, is_base=final.model == base.model),
            phases=records,
            teacher=dict(self.usage_by_phase()),
            timings=timings(steps),
            samples=[
                SampleAnswers(question=q.text, reference=q.reference, base=before, final=after)
                for q, before, after in islice(answered, SAMPLES)
            ],
        )
        absent = {"refused": list(self.refused_rows()), "material": self._material_shown()}  # where there is none
        return made.model_copy(update={name: value for name, value in absent.items() if value})

    def _dev_result(self, on_dev: EvalResult) -> DevResult:
        value, scores = on_dev.value().rounded(), on_dev.scores[on_dev.metric]
        whole = DevResult(n=len(scores), value=value, scores=scores)
        if not self.data.choice:
            return whole
        return whole.model_copy(update={"chosen_on": len(self.data.choice), "places": [*self.data.places]})

    def _material_shown(self) -> MaterialShown | None:
        rows = sum(question.teacher_context is not None for shard in self.shards.values() for question in shard)
        digests, size = self.material
        return MaterialShown(texts=list(digests), bytes=size, rows=rows) if digests or rows else None


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
