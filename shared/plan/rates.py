"""How long a job takes: seconds per row of each kind of step, first from the size of the student and of the machine, later as jobs
here were measured. Pure.

The first rates are those of docs/results.md's demo (two cores, a student of 135 million parameters), per token and row, scaled by
parameters and processors. They are right within a factor of FIRST; measured ones within LEARNED.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from shared.contracts.distillation import Distillation
from shared.contracts.estimate import Range
from shared.contracts.jobs import Measured
from shared.contracts.step_kinds import STEP_KINDS
from shared.contracts.steps import Queue, StepKind, Strategy
from shared.plan.plan import PlannedRows

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np

FIRST, LEARNED = 2.0, 1.3
PARAMETERS, CORES = 135e6, 2  # of the demo
GPU = 60.0  # times as fast as one of the demo's cores
BYTES_PER_TOKEN, TEMPLATE = 4.0, 45  # tokens that a chat template and our instructions put around a row
DECODED, LEARNED_FROM, PREFERRED, SEARCHED = 0.0043, 0.004, 0.0127, 0.011  # seconds per token of a row
CALL_S, TAUGHT_S, JUDGED_S = 0.3, 0.006, 0.6  # a call to a strong model, its token, a verdict
PROBE_S = 25.0  # the trainer tries a base: 10 to 60 s, whatever its size, since a large one is tried in small
VERDICT_CALLS = {StepKind.REVIEW: 1, StepKind.RATE: 2, StepKind.COMPARE: 2}
TYPICAL_RATIONALE = 60  # tokens of two or three sentences
SHARED = 0.5  # of the time of an answer by itself that one of many samples takes: the prompt is read once
TYPICAL_ANSWER = 120  # tokens of an answer where no reference shows the length


class Rate(NamedTuple):
    """seconds: per row. spread: the true value lies between a spread-th of it and spread times as much."""

    seconds: float
    spread: float


Rates = Mapping[StepKind, Rate]


class Lengths(NamedTuple):
    """Mean tokens of a row's question and of its reference (0: there are none)."""

    question: float
    answer: float

    @classmethod
    def of(cls, question_bytes: "np.ndarray", reference_bytes: "np.ndarray") -> "Lengths":
        """Of rows with so many UTF-8 bytes; 0: no reference."""
        questions, answers = float(question_bytes.sum()), float(reference_bytes.sum())
        answered = int((reference_bytes > 0).sum())
        return cls(
            questions / max(len(question_bytes), 1) / BYTES_PER_TOKEN, answers / max(answered, 1) / BYTES_PER_TOKEN
        )


@dataclass(frozen=True)
class Machine:
    """parameters: of the student; None: unknown. gpu: whether training and engine run on one."""

    parameters: float | None = None
    cores: int = CORES
    gpu: bool = False

    @property
    def slowness(self) -> float:
        """Times as long as on the demo's machine with its student."""
        power = GPU if self.gpu else max(self.cores, 1)
        return (self.parameters or PARAMETERS) / PARAMETERS * CORES / power


def rationale_tokens(spec: Distillation) -> float:
    """Of a usual one."""
    return min(TYPICAL_RATIONALE, spec.distill.rationale_tokens) if spec.reasons else 0


def first_rates(spec: Distillation, lengths: Lengths, machine: Machine) -> dict[StepKind, Rate]:
    """Before any job was measured here."""
    answer = min(lengths.answer or TYPICAL_ANSWER, spec.answer_tokens) + rationale_tokens(spec)
    taught = min((lengths.answer or TYPICAL_ANSWER) + rationale_tokens(spec), spec.teacher.max_tokens)
    learned = min(lengths.question + max(answer, taught) + TEMPLATE, spec.adapter.max_length)
    beams = spec.evolve.beam_width if spec.evolve.strategy is Strategy.BEAM else spec.evolve.samples
    # a batch ends with its longest answer, so the limit counts beside what is usual
    written = {
        StepKind.ANSWER: (answer + spec.student_tokens) / 2 + 10,
        StepKind.GUIDE: spec.distill.guideline_tokens,
        StepKind.REASON: 2 * spec.student_tokens,
        StepKind.SAMPLE: SHARED * (answer + 10),
    }
    student = {kind: DECODED * tokens for kind, tokens in written.items()} | {
        StepKind.SFT: LEARNED_FROM * learned,
        StepKind.SCORE: LEARNED_FROM * learned / 2,
        StepKind.DPO: PREFERRED * learned,
        StepKind.SEARCH: SEARCHED * spec.student_tokens * beams,
    }
    strong = {kind: JUDGED_S * calls for kind, calls in VERDICT_CALLS.items()}
    strong |= {StepKind.TEACH: CALL_S + TAUGHT_S * taught, StepKind.GRADE: STEP_KINDS[StepKind.GRADE].cost / 10}
    strong[StepKind.AGREE] = STEP_KINDS[StepKind.AGREE].cost
    return {kind: Rate(seconds * machine.slowness, FIRST) for kind, seconds in student.items()} | {
        kind: Rate(seconds, FIRST) for kind, seconds in strong.items()
    }


def probe_rate(measured: Measured | None = None) -> Rate:
    """Of train.probe, which a job has once where its base was never tried here. measured: other bases' on this machine."""
    if measured is None or not measured.rows or not measured.seconds:
        return Rate(PROBE_S, FIRST)
    return Rate(measured.seconds / measured.rows, FIRST)


def learned_rates(first: Rates, measured: Mapping[StepKind, Measured]) -> dict[StepKind, Rate]:
    """The first rates with those that were measured in their place. A kind that was not measured is scaled like the measured ones
    of its queue, which the same machine works on."""
    known = {kind: one.seconds / one.rows for kind, one in measured.items() if one.rows > 0 and one.seconds > 0}
    rates: dict[StepKind, Rate] = {}
    for kind, rate in first.items():
        ratios = [
            known[other] / first[other].seconds for other in known if other in first and other.queue is kind.queue
        ]
        scale = sum(ratios) / len(ratios) if ratios and kind.queue is not Queue.JUDGE else 1.0
        rates[kind] = Rate(known[kind], LEARNED) if kind in known else Rate(rate.seconds * scale, FIRST)
    return rates


def duration(rows: PlannedRows, rates: Rates) -> Range:
    """Seconds of so many rows."""
    known = [(count, rates[kind]) for (_, kind), count in rows.items() if kind in rates]
    return Range(
        low=sum(count * rate.seconds / rate.spread for count, rate in known),
        high=sum(count * rate.seconds * rate.spread for count, rate in known),
    )
