"""Texts that ended at their limit of tokens. They are counted and never trained on; if there are many, the report names the setting to raise.

Trained on with the token that ends a turn, such a text would teach the student to stop anywhere.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from services.orchestrator.method.durable import Emit
from shared.contracts.phase_records import (
    DistillRecord,
    EvolveRecord,
    IterateRecord,
    PilotRecord,
    RoundRecord,
    SampleFigures,
)
from shared.contracts.report import TableRow
from shared.contracts.rows import TOO_LONG, StudentCompletion, Verdict
from shared.reporting.words import label

NOTICEABLE = 0.05  # share of texts from which a warning names the setting
UNANSWERED, CUT = "unanswered", "cut_off"  # verdicts' `by` where nobody was asked
SHORTER = "The last attempt was too long and was cut off before its end. Be brief and finish the answer."

ANSWER, TEACHER, GUIDELINE = "distillation.answer_tokens", "teacher.max_tokens", "distill.guideline_tokens"


class Counted(NamedTuple):
    """Of so many texts of a phase, how many were cut off by which setting. what: the texts in words, and what became of them."""

    phase: str
    cut_off: int
    texts: int
    what: str
    setting: str

    @property
    def noticeable(self) -> bool:
        return self.cut_off > NOTICEABLE * self.texts

    @property
    def words(self) -> str:
        return (
            f"{self.phase}: {self.cut_off} of {self.texts} {self.what} (cut off at their limit of tokens): "
            f"raise {self.setting}"
        )


def unfinished(completion: StudentCompletion) -> Verdict:
    """What becomes, without asking anybody, of an attempt that is not whole: it does not pass."""
    if completion.finish_reason == TOO_LONG:
        return Verdict(id=completion.id, passed=False, by=UNANSWERED)
    return Verdict(id=completion.id, passed=False, by=CUT, critique=SHORTER)


def counted(name: str, record: PilotRecord | DistillRecord | IterateRecord | EvolveRecord) -> Iterator[Counted]:
    """All that a phase cut off. name: the phase's, for people."""
    match record:
        case PilotRecord():
            asked, cut_off = record.questions * len(record.usable), record.cut_off or {}
            yield Counted(name, cut_off.get("answers", 0), asked, "answers of the teacher are not whole", TEACHER)
            yield _guidelines(name, cut_off.get("guidelines", 0), record.questions)
        case DistillRecord():
            yield Counted(
                name, record.dropped.get("cut_off", 0), record.questions, "answers of the teacher were dropped", TEACHER
            )
            yield _guidelines(name, record.cut_off_guidelines, record.questions)
        case IterateRecord():
            for number, one in enumerate(record.rounds, start=1):
                yield from _of_round(f"{name}, round {number}", one)
        case EvolveRecord():
            for number, turn in enumerate(record.turns, start=1):
                yield Counted(
                    f"{name}, turn {number}",
                    turn.dropped.get("cut_off", 0),
                    turn.questions,
                    "pairs were dropped",
                    ANSWER,
                )
                if turn.sampled is not None:
                    yield _samples(f"{name}, turn {number}", turn.sampled)


def _samples(name: str, drawn: SampleFigures) -> Counted:
    return Counted(name, drawn.cut_off, drawn.questions * drawn.samples, "samples did not pass", ANSWER)


def _guidelines(name: str, cut_off: int, texts: int) -> Counted:
    return Counted(name, cut_off, texts, "guidelines were not shown to the teacher", GUIDELINE)


def _of_round(name: str, record: RoundRecord) -> Iterator[Counted]:
    yield Counted(name, record.cut_off, sum(record.asked_by_try), "attempts did not pass", ANSWER)
    if record.sampled is not None:
        yield _samples(name, record.sampled)
    dropped = record.dropped_corrections.get("cut_off", 0)
    texts = record.corrected + sum(record.dropped_corrections.values())
    yield Counted(name, dropped, texts, "corrections of the teacher were dropped", TEACHER)


def of_table(rows: Sequence[TableRow]) -> Iterator[Counted]:
    """What was cut off while students were measured: of the row that has most; the table has a column for all."""
    row = max(rows, key=lambda row: row.cut_off or 0)
    yield Counted(f"{label(row.name)} on test", row.cut_off or 0, row.n, "answers are not whole", ANSWER)


async def tell_cut_off(
    emit: Emit, name: str, record: PilotRecord | DistillRecord | IterateRecord | EvolveRecord
) -> None:
    """A warning event for each kind of text of which a noticeable share was cut off."""
    for one in counted(name, record):
        if one.noticeable:
            await emit(one.words, level="warn", cut_off=one.cut_off, of=one.texts, setting=one.setting)
