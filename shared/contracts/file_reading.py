"""How a data file is read: what a person may say about it, and what was seen."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from shared.contracts.data import Answers, LineError, Question
from shared.contracts.distillation import NO_NUL, Strict
from shared.contracts.field_names import RowField
from shared.contracts.json_types import Json

Column = Annotated[str, Field(max_length=200, pattern=NO_NUL)]
Mapping = dict[RowField, Column]


class ReadOptions(Strict):
    """mapping: our field -> the file's, with dots into nested values, as in answers.text.0; a star makes a row of each member of a
    list, as in qas.*.question; a plus joins fields, as in instruction+input; column_1 is the first column of a table without a
    header; an empty name says that there is none. Without a mapping, fields are recognised by their names. skip_bad: bad rows are left out and counted; else one of
    them refuses the file."""

    mapping: Mapping = Field(default={}, description="our field -> the file's field")
    skip_bad: bool = False
    answers: Answers = Field(
        default="last",
        description="of a conversation: its last answer makes a row, or all answers of the assistant whose weight is not 0",
    )
    mask: bool = Field(default=False, exclude_if=lambda mask: not mask, description="mask personal data in every row")
    member: str = Field(
        default="", max_length=500, pattern=NO_NUL, exclude_if=lambda name: not name,
        description="the one file of a zip that is read; without it all of its data files, which must have one shape",
    )  # fmt: skip


class FileReading(BaseModel):
    """How a file was read.

    answers: of a conversation, the last one makes a row, or all. format: for people, such as `CSV, separated by ";", cp1252`. shapes: rows by the shape they were recognised as.
    references: rows with a reference answer. ignored_fields: fields that were not read, and in how many rows they stand.
    notes: what was decided for rows, such as which of several answers is used, and for how many.
    skipped: bad rows that were left out, by reason. split_by: `file` (its own split field), `question` (by hash of the
    question) or `size` (balanced, since the file is small). linked: rows that stand on the side of others, by what they have in
    common: question (its words), asked (the question, under another context), reference, passage, near (nearly the question).
    member: the one file of a zip that was read, where it was named. mask, masked: whether personal data was masked in the rows, and how much of each kind.
    left: rows of dev and test that still have something in common with a row of another split, by the same names and `group`.
    """

    format: str
    mapping: dict[str, str] = {}
    member: str = Field(default="", exclude_if=lambda name: not name)
    answers: Answers = "last"
    shapes: dict[str, int] = {}
    references: int = 0
    ignored_fields: dict[str, int] = {}
    notes: dict[str, int] = {}
    skipped: dict[str, int] = {}
    split_by: Literal["file", "question", "size"] = "question"
    linked: dict[str, int] = {}
    left: dict[str, int] = {}
    warnings: list[str] = []
    mask: bool = Field(default=False, exclude_if=lambda mask: not mask)
    masked: dict[str, int] = Field(default={}, exclude_if=lambda counts: not counts)


class Lengths(BaseModel):
    """Characters, or tokens where that is said: the median, the 95th percentile and the longest."""

    median: int
    p95: int
    longest: int


class StudentFit(BaseModel):
    """Lengths in the student's tokens, of the first `rows` good rows. context: what it takes, prompt and answer together.

    too_long: rows whose question alone fills the context, so that they cannot be asked. cut: rows whose question and reference do not
    fit together. What the chat template adds is not counted.
    """

    student: str
    context: int | None
    rows: int
    question: Lengths | None
    reference: Lengths | None
    too_long: int
    cut: int


class PreviewRow(BaseModel):
    """line: as in the file. before: as it stands there. after: as it is used; None for a bad row, whose error is told."""

    line: int
    before: Json | None = None
    after: Question | None = None
    error: LineError | None = None


class PreviewRequest(ReadOptions):
    """Body of POST /v1/files/{id}/preview. rows: how many are shown. student: a base model, in whose tokens lengths are counted."""

    rows: int = Field(default=3, ge=0, le=50)
    student: str | None = Field(default=None, max_length=200, pattern=NO_NUL)


class Preview(BaseModel):
    """What becomes of a file if it is used as a dataset. problem: why it cannot be, and what to do."""

    object: Literal["file.preview"] = "file.preview"
    valid: bool
    problem: str | None = None
    n_rows: int
    n_bad: int
    splits: dict[str, int]
    reading: FileReading
    question_length: Lengths | None = None
    reference_length: Lengths | None = None
    student: StudentFit | None = None
    languages: dict[str, int] = Field(
        default={}, description="ISO 639-1 codes of the first questions (at most 500), guessed"
    )
    categories: dict[str, int] = {}
    duplicates: int = Field(
        default=0, description="rows whose question stands in an earlier row, apart from case, width and punctuation"
    )
    rows: list[PreviewRow] = []
    errors: list[LineError] = []
