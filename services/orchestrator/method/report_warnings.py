"""Warnings about a job's steps that a reader of its report must know: what could not be read, graded, finished or used for training."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from services.orchestrator.method import cut_off
from shared.contracts.adapter_check import KEY, AdapterCheck
from shared.contracts.distillation import Phase
from shared.contracts.phase_records import PhaseRecords, RoundRecord, TrainingFigures
from shared.contracts.report import TableRow
from shared.contracts.step_key import StepKey


def warnings(
    figures: Mapping[StepKey, Mapping[str, Any]], records: PhaseRecords, table: Sequence[TableRow]
) -> list[str]:
    """figures: what the workers counted, by step key. table: the students on test."""
    rounds = [(f"round {number}", record) for number, record in enumerate(records.rounds, start=1)]
    turns = [(f"turn {number}", record.training) for number, record in enumerate(records.turns, start=1)]
    return [
        *_verdict_warnings(rounds),
        *(f"{name}: {drawn.gate_words}" for name, drawn in records.sampled() if drawn.gate_closed),
        *thought_warnings(figures.values()),
        *adapter_warnings(figures.values()),
        *_grader_warnings(figures),
        *(_training_warnings("phase 1", records.distill.training) if records.distill else []),
        *(warning for name, record in rounds for warning in _round_warnings(name, record)),
        *(warning for name, training in turns for warning in _training_warnings(name, training)),
        *_cut_off_warnings(records, table),
    ]


def _cut_off_warnings(records: PhaseRecords, table: Sequence[TableRow]) -> list[str]:
    """What was not learned, or counts as it stands, because it ended at its limit of tokens, where that is a noticeable share."""
    phases = [("pilot", records.pilot), *((phase.value, getattr(records, phase.value)) for phase in Phase)]
    counted = chain(*(cut_off.counted(name, record) for name, record in phases if record), cut_off.of_table(table))
    return [one.words for one in counted if one.noticeable]


def _grader_warnings(figures: Mapping[StepKey, Mapping[str, Any]]) -> list[str]:
    """What the job's graders could not grade, over all steps."""
    graded = [counts for key, counts in figures.items() if not key.is_baseline]
    ungradable, failed = (sum(counts.get(name, 0) for counts in graded) for name in ("ungradable", "grader_failed"))
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


def _verdict_warnings(rounds: Sequence[tuple[str, RoundRecord]]) -> list[str]:
    return [
        f"{name}: {record.unparsed_verdicts} of {sum(record.asked_by_try)} verdicts could not be read; these "
        "answers were not trained on"
        for name, record in rounds
        if 2 * record.unparsed_verdicts > sum(record.asked_by_try)
    ]


def thought_warnings(figures: Iterable[Mapping[str, Any]]) -> list[str]:
    """Answers that are empty because they ended inside a thought make the base look worse than it is."""
    counted = [counts for counts in figures if "cut_in_thought" in counts]
    cut, n = (sum(counts[name] for counts in counted) for name in ("cut_in_thought", "n"))
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
