"""Dataset rows: parsing of JSONL uploads, groups and splits. Pure functions, no I/O."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import BinaryIO, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from shared.contracts.error_location import place_of
from shared.contracts.json_types import Json
from shared.contracts.openai_rows import PREFERENCE, NotUsable, from_messages, from_preference

LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
RowType = TypeVar("RowType", bound=BaseModel)
VALIDATION, MAX_ID = "validation-", 200
MAX_LINE_BYTES = 1_000_000  # one record; a longer line is a mistake (a file without newlines), not a question
SKIP_BYTES = 1 << 20


class Split(StrEnum):
    """train: what the phases learn from.  dev: every decision.  test: the report, nothing else."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


class Question(BaseModel):
    """One record of a domain. `reference` (an accepted answer, a passage) grounds the teacher and feeds the graders; `rejected`
    is a worse answer beside it, for training on preferences."""

    id: str = Field(max_length=MAX_ID)
    question: str = Field(min_length=1, max_length=100_000)
    title: str | None = None
    context: str | None = None
    reference: str | None = None
    category: str | None = None
    group: str | None = None
    source: str | None = None  # where it is from: link, author, licence; kept for attribution, shown to no model
    split: Split | None = None
    rejected: str | None = Field(default=None, exclude_if=lambda rejected: rejected is None)

    @field_validator("reference", "rejected")
    @classmethod
    def _blank_is_none(cls, reference: str | None) -> str | None:
        """Nothing can be graded against a blank, and a teacher shown one would be told that it is the answer."""
        return reference if reference and reference.strip() else None

    @property
    def text(self) -> str:
        """What the student is asked: title, question and context, as one user message."""
        return "\n\n".join(part for part in (self.title, self.question, self.context) if part)


class LineError(BaseModel):
    """One bad line of an upload: its number (from 1), a stable code, and how to mend it."""

    line: int
    code: str
    message: str
    param: str | None = None


class _Upload(BaseModel):
    """A line as it is checked; chat rows are brought into this form before."""

    question: str = Field(min_length=1, max_length=100_000)
    id: str | None = Field(
        default=None, max_length=MAX_ID, pattern=r"^[^\x00-\x1f\x7f]*$"
    )  # goes into rows and headers
    title: str | None = None
    context: str | None = None
    reference: str | None = None
    category: str | None = Field(default=None, max_length=200)
    group: str | None = Field(default=None, max_length=200)
    source: str | None = Field(default=None, max_length=2000)
    rejected: str | None = None

    @model_validator(mode="after")
    def _not_blank(self) -> "_Upload":
        if not self.question.strip():
            raise ValueError("question is blank")
        if self.rejected and not self.reference:
            raise ValueError("rejected is an answer that is worse than the reference, and there is none")
        return self


MOST_IGNORED = 50  # names of unread fields that are counted
CHAT_FIELDS = {"messages", *PREFERENCE}
KNOWN_FIELDS = {*_Upload.model_fields, *CHAT_FIELDS, "split"}  # the split of a row that was downloaded is made anew


def parse_line(number: int, raw: bytes, ignored: Counter[str] | None = None) -> Question | LineError | None:
    """One line of an upload. None for an empty line; a LineError names the line and the field.

    ignored: counts the fields that are not read, so that somebody can be told.
    """
    value = json_line(number, raw)
    if not isinstance(value, dict):
        return value
    if ignored is not None:
        unread = (name[:100] for name in value if name not in KNOWN_FIELDS)
        ignored.update(name for name in unread if name in ignored or len(ignored) < MOST_IGNORED)
    if not CHAT_FIELDS.isdisjoint(value):
        try:
            chat = from_messages(value["messages"]) if "messages" in value else from_preference(value)
            value = chat | {name: part for name, part in value.items() if name not in CHAT_FIELDS}
        except NotUsable as error:
            return LineError(line=number, code="invalid_row", message=str(error), param=error.where)
    row = checked(_Upload, number, value, "question")
    if isinstance(row, LineError):
        return row
    return Question(**row.model_dump(exclude={"id"}), id=row.id or f"row-{number}")


def json_line(number: int, raw: bytes) -> Json | LineError | None:
    """One line of JSONL as an object; None for an empty line."""
    if len(raw) > MAX_LINE_BYTES:
        return LineError(
            line=number,
            code="line_too_long",
            message=f"longer than {MAX_LINE_BYTES} bytes; one JSON object per line is expected",
        )
    if not raw.strip():
        return None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return LineError(
            line=number, code="invalid_utf8", message=f"not UTF-8 at byte {error.start}; save the file as UTF-8"
        )
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        return LineError(line=number, code="invalid_json", message=f"not a JSON object: {error}")
    if not isinstance(value, dict):
        return LineError(line=number, code="invalid_json", message="a JSON object is expected on every line")
    if LONE_SURROGATE.search(raw) and not _encodable(value):
        return LineError(
            line=number, code="invalid_unicode", message="half of a surrogate pair (\\ud800 to \\udfff) stands alone"
        )
    return value


def checked(kind: type[RowType], number: int, value: Json, whole: str | None = None) -> RowType | LineError:
    """The object of a line as a row. whole: the param of an error that concerns the row as a whole."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        param = place_of(first, value) or whole
        message = f"{param}: {first['msg']}" if param else first["msg"]
        return LineError(line=number, code="invalid_row", message=message, param=param)


def _encodable(value: dict) -> bool:
    """Whether the texts can be written as UTF-8 again; JSON's \\u escapes can spell what cannot."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines without their end. Of a line that is too long only MAX_LINE_BYTES + 1 bytes are read and the rest skipped."""
    while raw := file.readline(MAX_LINE_BYTES + 1):
        if len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n"):
            yield raw
            while (rest := file.readline(SKIP_BYTES)) and not rest.endswith(b"\n"):
                continue
        else:
            yield raw.rstrip(b"\r\n")


def parse_lines(lines: Iterable[bytes], ignored: Counter[str] | None = None) -> Iterator[Question | LineError]:
    """Every non-empty line as a Question or a LineError; repeated ids are errors too. ignored: as for `parse_line`.

    Only ids that the file gives are remembered; those that follow from line numbers cost a bit each.
    """
    seen: dict[str, int] = {}
    numbered = bytearray()  # a bit for each line whose id is its number
    for number, raw in enumerate(lines, start=1):
        item = parse_line(number, raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw, ignored)
        if isinstance(item, Question):
            before = _before(item.id, number, seen, numbered)
            if before:
                item = LineError(
                    line=number,
                    code="duplicate_id",
                    message=f"id {item.id!r} stands on line {before} too",
                    param="id",
                )
        if item is not None:
            yield item


NUMBERED = re.compile(r"row-([1-9][0-9]{0,9})")


def _before(given: str, number: int, seen: dict[str, int], numbered: bytearray) -> int | None:
    """The earlier line with this id, if there is one; notes the id."""
    if given in seen:
        return seen[given]
    named = NUMBERED.fullmatch(given)
    line = int(named.group(1)) if named else 0
    byte, bit = divmod(line, 8)
    if line and byte < len(numbered) and numbered[byte] & 1 << bit:
        return line
    if line == number:
        numbered.extend(bytes(byte + 1 - len(numbered)))
        numbered[byte] |= 1 << bit
    else:
        seen[given] = number
    return None


def group_key(row: Question) -> str:
    """Rows with one key never stand on both sides of a split: the given group, else the question's own words."""
    return f"group:{row.group}" if row.group else _text_key(row)


def _text_key(row: Question) -> str:
    return "text:" + " ".join(row.text.casefold().split())


def in_both(rows: Iterable[Question], validation: Iterable[Question]) -> list[str]:
    """Ids of the rows for validation whose question or group is among the others too."""
    keys = {key for row in rows for key in (group_key(row), _text_key(row))}
    return [row.id for row in validation if not keys.isdisjoint((group_key(row), _text_key(row)))]


def with_validation(rows: Iterable[Question], validation: Iterable[Question]) -> list[Question]:
    """Rows for validation become dev, and what was dev is learned from. Ids tell rows of a job apart, and two files may have
    given the same ones (`row-1`): those for validation get others."""
    merged = [row.model_copy(update={"split": Split.TRAIN}) if row.split is Split.DEV else row for row in rows]
    taken = {row.id for row in merged}
    for row in validation:
        name = _free(row.id, taken)
        taken.add(name)
        merged.append(row.model_copy(update={"id": name, "split": Split.DEV}))
    return merged


def _free(name: str, taken: set[str]) -> str:
    while (name := f"{VALIDATION}{name}"[:MAX_ID]) in taken:
        name = hashlib.sha256(name.encode()).hexdigest()
    return name


def split_of(row: Question, dev: float, test: float) -> Split:
    """The split by hash of the row's group alone, so that a question keeps its side in every later file.

    dev, test: shares in [0, 1]; the rest is train.
    """
    position = int.from_bytes(hashlib.sha256(group_key(row).encode()).digest()[:8]) / 2**64
    if position < test:
        return Split.TEST
    return Split.DEV if position < test + dev else Split.TRAIN


REFERENCES_LEAST = 2  # as many as the API wants of rows in dev and in test


def judge_must_decide(rows: Iterable[Question]) -> bool:
    """Whether dev or test holds too few references to measure by. Then the judge compares answers on all questions."""
    references = Counter(row.split for row in rows if row.reference)
    return min(references[Split.DEV], references[Split.TEST]) < REFERENCES_LEAST
