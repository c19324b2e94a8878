"""What became of each example of a job: GET /v1/distillation/jobs/{job_id}/outcomes. Read from the job's finished steps."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel

from shared.contracts.data import Split


class Happened(StrEnum):
    """Filters. failed: tried or sampled in phase 2, and nothing passed. passed: something did. turned: a verdict of the judge turned with
    the order of the answers. dropped: nothing was learned of it in a phase, though it was asked about. learned: a training read it.
    measured: students answered it on dev or test."""

    FAILED = "failed"
    PASSED = "passed"
    TURNED = "turned"
    DROPPED = "dropped"
    LEARNED = "learned"
    MEASURED = "measured"


class Order(StrEnum):
    FILE = "file"
    LONGEST = "longest"


class Tried(BaseModel):
    """An attempt of phase 2 and its verdict. attempt: from 1; null: of `samples` answers that were drawn at once `passing` passed
    (null: no grader and no judge has said). by: as in a verdict."""

    round: int
    attempt: int | None = None
    passed: bool
    by: str
    samples: int | None = None
    passing: int | None = None


class Dropped(BaseModel):
    """why: the outcome of the teacher's response, or the fault of a pair; `checks`: the answer was usable and was left out, because it
    repeats its input, is in another language or is nearly one that is there already."""

    phase: str
    why: str


class Judged(BaseModel):
    """A comparison of two answers. winner: what both orders agree on; turned: they do not. parsed: both gave a verdict. over: the
    students, as "iterate-over-base"."""

    step: str
    over: str
    first: str
    second: str
    winner: Literal["first", "second", "tie"]
    turned: bool
    parsed: bool


class MeasuredAnswer(BaseModel):
    """A student's answer on dev or test. scores: by grader."""

    student: str
    answer: str
    scores: dict[str, float] = {}


class OutcomeObject(BaseModel):
    """characters: of the question and its longest text, be it reference or answer. learned: the trainings that read it, by their steps."""

    id: str
    object: Literal["distillation.outcome"] = "distillation.outcome"
    question: str
    reference: str | None = None
    category: str | None = None
    split: Split | None = None
    characters: int
    tries: list[Tried] = []
    dropped: list[Dropped] = []
    learned: list[str] = []
    judged: list[Judged] = []
    measured: list[MeasuredAnswer] = []
