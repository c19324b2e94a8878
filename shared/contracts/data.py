"""Dataset rows: parsing of JSONL uploads, groups and splits. Pure functions, no I/O."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from shared.contracts.conversation import transcript
from shared.contracts.error_location import place_of, said
from shared.contracts.json_types import Json
from shared.contracts.mapping_hints import holds_answers, suggested_mapping
from shared.contracts.material import LONGEST
from shared.contracts.openai_rows import NotUsable
from shared.contracts.row_shapes import NoShape, Shape, completed, shape_of
from shared.contracts.tool_calls import answer_text

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


DEV_SHARE, TEST_SHARE = (
    0.15,
    0.20,
)  # of a file's rows, unless METEOR_API_DEV_SHARE and METEOR_API_TEST_SHARE say otherwise
LEAST_ROWS = {Split.TRAIN: 4, Split.DEV: 2, Split.TEST: 2}  # of a job


def _is_none(value: object) -> bool:
    return value is None


class Question(BaseModel):
    """One record of a domain. `reference` (an accepted answer, a passage) grounds the teacher and feeds the graders; `rejected`
    is a worse answer beside it, for training on preferences. `teacher_context` is shown to the teacher and the judge, and to no student.

    messages: of a conversation, all that stands before the answer, in OpenAI's form; `question` is the user's last message then.
    None: the question is asked alone. A message with weight 0 is not to be learned. tools: the definitions of those offered.
    item: the row's further fields, by their names in the file; graders may read them, and no model does.
    """

    id: str = Field(max_length=MAX_ID)
    question: str = Field(min_length=1, max_length=100_000)
    title: str | None = None
    context: str | None = None
    reference: str | None = None
    category: str | None = None
    group: str | None = None
    source: str | None = None  # where it is from: link, author, licence; kept for attribution, shown to no model
    split: Split | None = None
    rejected: str | None = Field(default=None, exclude_if=_is_none)
    messages: list[Json] | None = Field(default=None, exclude_if=_is_none)
    tools: list[Json] | None = Field(default=None, exclude_if=_is_none)
    item: Json | None = Field(default=None, exclude_if=_is_none)
    teacher_context: str | None = Field(default=None, exclude_if=_is_none)

    @field_validator("reference", "rejected", "teacher_context")
    @classmethod
    def _blank_is_none(cls, reference: str | None) -> str | None:
        """Nothing can be graded against a blank, and a teacher shown one would be told that it is the answer."""
        return reference if reference and reference.strip() else None

    @property
    def text(self) -> str:
        """All that is asked as one text. Of a question asked alone (title, question and context) it is the student's user message; a
        conversation is asked as messages, and this is its transcript."""
        if self.messages is not None:
            return transcript(self.messages, self.tools or ())
        return self.asked

    @property
    def asked(self) -> str:
        """The question without what a conversation says before it."""
        if self.title is None and self.context is None:
            return self.question
        return "\n\n".join(part for part in (self.title, self.question, self.context) if part)

    @property
    def spoken(self) -> str:
        """What the user says, in all turns; without instructions, answers and results of tools."""
        if self.messages is None:
            return self.asked
        return "\n\n".join(message["content"] for message in self.messages if message["role"] == "user")


class LineError(BaseModel):
    """One bad line of an upload: its number (from 1), a stable code, and how to mend it."""

    line: int
    code: str
    message: str
    param: str | None = None


class _Upload(Question):
    """A line as it is checked, stricter than rows that were stored before; chat rows are brought into this form before."""

    id: str = Field(max_length=MAX_ID, pattern=r"^[^\x00-\x1f\x7f]*$")  # goes into rows and headers
    category: str | None = Field(default=None, max_length=200)
    group: str | None = Field(default=None, max_length=200)
    source: str | None = Field(default=None, max_length=2000)
    teacher_context: str | None = Field(default=None, max_length=LONGEST)

    @model_validator(mode="after")
    def _not_blank(self) -> "_Upload":
        if not self.question.strip():
            raise ValueError("question is blank")
        if self.rejected and not self.reference:
            raise ValueError("rejected is an answer that is worse than the reference, and there is none")
        return self


MOST_IGNORED = 50  # names of unread fields that are counted
OWN_FIELDS = {*Question.model_fields} - {"messages", "tools", "item"}  # those make another shape
SPLITS = {
    "train": Split.TRAIN, "training": Split.TRAIN, "dev": Split.DEV, "validation": Split.DEV, "valid": Split.DEV,
    "val": Split.DEV, "eval": Split.DEV, "test": Split.TEST, "testing": Split.TEST,
}  # fmt: skip


Answers = Literal["last", "all"]


@dataclass
class Reading:
    """How the rows of a file are read, and what was seen. shape: a mapping that a person gave; None: by the names of fields.

    ignored: fields that were not read, and how many rows have them. texts: of those, how many rows have a text in them.
    shapes: rows by the shape they have. split: rows that name a split. fields: of a mapped file, all that were seen.
    notes: what was decided for a row, such as which of several answers is used, and in how many rows. answers: of a conversation,
    the last answer alone makes a row, or each that is to be learned. masked: personal data by kind. sample: the first good row.
    """

    shape: Shape | None = None
    answers: Answers = "last"
    rows: int = 0
    references: int = 0
    split: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    fields: set[str] = field(default_factory=set)
    notes: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)
    sample: Json | None = None

    def note(self, value: Json, shape: Shape | None, row: Question) -> None:
        self.rows += 1
        self.sample = self.sample or value
        self.references += row.reference is not None
        self.split += row.split is not None
        self.shapes[shape.name if shape else "question and reference"] += 1
        if self.shape:
            self.fields |= value.keys()
        for name in value.keys() - (shape.reads if shape else OWN_FIELDS):
            short = name[:100]
            if short in self.ignored or len(self.ignored) < MOST_IGNORED:
                self.ignored[short] += 1
                self.texts[short] += holds_answers(name, value[name])


def parse_line(number: int, raw: bytes, reading: Reading | None = None) -> Question | LineError | None:
    """One line of JSONL. None for an empty line; a LineError names the line and the field."""
    value = json_line(number, raw)
    return parse_row(number, value, reading) if isinstance(value, dict) else value


def parse_row(number: int, value: Json, reading: Reading | None = None, part: int = 1) -> Question | LineError:
    """An object as a row of a dataset, whatever shape it has. part: its place among the rows of that number, from 1."""
    shape = reading.shape if reading else None
    try:
        if shape is None and not ("question" in value and value.keys() <= OWN_FIELDS):
            shape = shape_of(tuple(value))
        elif shape is not None and shape.partial:
            shape = completed(shape, tuple(value))
        made = shape.convert(value) if shape else _own(value)
    except NoShape as error:
        message = str(error)
        if hint := suggested_mapping(value):
            message = f"{message.partition(' Name it')[0]} Name it, for example: {hint}"
        return LineError(line=number, code="no_question", message=message, param="question")
    except NotUsable as error:
        return LineError(line=number, code="invalid_row", message=str(error), param=error.where)
    note = made.pop("note", None)
    if "split" in made:
        made["split"] = _named_split(made["split"])
    if not made.get("id"):
        made["id"] = _row_id(number, part)
    if made.get("question") is None and (hint := suggested_mapping(value)):
        message = (
            f"question: the field that is taken for the question is empty. If another one holds it, name it: {hint}"
        )
        return LineError(line=number, code="invalid_row", message=message, param="question")
    question = checked(_Upload, number, made, "question")
    if isinstance(question, LineError):
        return question
    read = OWN_FIELDS | shape.reads if shape else OWN_FIELDS
    if further := {name: part for name, part in value.items() if name not in read}:
        if isinstance(further.get("item"), dict):  # as `as_upload` writes them
            further |= further.pop("item")
        question.item = further or None
    # its checks are done, and to do them again as a Question would take a fifth of all the time
    object.__setattr__(question, "__class__", Question)
    if reading is not None:
        reading.note(value, shape, question)
        if note:
            reading.notes[note] += 1
    return question


def _row_id(number: int, part: int) -> str:
    return f"row-{number}" if part == 1 else f"row-{number}.{part}"


NUMBERS = (int, float)


def _own(value: Json) -> Json:
    """A row with the dataset's own fields; numbers become texts."""
    return {name: str(part) if isinstance(part, NUMBERS) else part for name, part in value.items()}


def _named_split(name: object) -> Split | None:
    return SPLITS.get(name.strip().casefold()) if isinstance(name, str) else None


def json_line(number: int, raw: bytes) -> Json | LineError | None:
    """One line of JSONL as an object; None for an empty line."""
    if len(raw) > MAX_LINE_BYTES:
        return LineError(
            line=number,
            code="line_too_long",
            message=f"longer than {MAX_LINE_BYTES} bytes; one JSON object per line is expected",
        )
    if number == 1:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
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
        why = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else error
        return LineError(line=number, code="invalid_json", message=f"not a JSON object: {why}")
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
        message = f"{param}: {said(first)}" if param else said(first)
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


def parse_lines(lines: Iterable[bytes], reading: Reading | None = None) -> Iterator[Question | LineError]:
    """Every non-empty line of JSONL as a Question or a LineError."""
    values = ((number, json_line(number, raw)) for number, raw in enumerate(lines, start=1))
    return parse_rows(((number, value) for number, value in values if value is not None), reading)


def parse_rows(
    records: Iterable[tuple[int, Json | LineError]], reading: Reading | None = None
) -> Iterator[Question | LineError]:
    """Every record as a Question or a LineError; repeated ids are errors too.

    Only ids that the file gives are remembered; those that follow from line numbers cost a bit each.
    """
    seen: dict[str, int] = {}
    numbered = bytearray()  # a bit for each line whose id is its number
    last, part = 0, 1
    for number, value in records:
        last, part = number, part + 1 if number == last else 1
        item = value if isinstance(value, LineError) else parse_row(number, value, reading, part)
        if isinstance(item, Question):
            before = _before(item.id, number, seen, numbered)
            if before:
                item = LineError(
                    line=number,
                    code="duplicate_id",
                    message=f"id {item.id!r} stands on line {before} too",
                    param="id",
                )
            elif reading is not None and reading.answers == "all" and item.messages is not None:
                *earlier, item = turns_of(item)
                reading.rows += len(earlier)
                reading.references += len(earlier)
                for turn in earlier:
                    seen.setdefault(turn.id, number)
                yield from earlier
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


OPENING = 20  # letters; a shorter first message (a greeting) does not tell conversations apart


def group_key(row: Question) -> str:
    """Rows with one key never stand on both sides of a split: the given group, else the question's own words. Of a conversation it
    is the user's first message, so that its logs up to each turn stay together."""
    return f"group:{row.group}" if row.group else _text_key(row)


def _text_key(row: Question) -> str:
    words = row.spoken
    if row.messages is not None:
        opening = next((message["content"] for message in row.messages if message["role"] == "user"), "")
        words = opening if len(opening) >= OPENING else words
    return "text:" + " ".join(words.casefold().split())


TURN = re.compile(r"/turn-[0-9]+\Z")


def turns_of(row: Question) -> list[Question]:
    """A row for each answer of a conversation that is to be learned, the row's own last. They are one group, and their ids name the
    row: `ID/turn-1` is the first answer."""
    rows, number = [], 0
    group = row.group or f"conversation {hashlib.sha256(row.text.encode()).hexdigest()[:32]}"
    for place, message in enumerate(row.messages or ()):
        before = (row.messages or [])[:place]
        users = [turn for turn in before if turn["role"] == "user"]
        if message["role"] != "assistant" or not users:
            continue
        number += 1
        answer = answer_text(message["content"], message.get("tool_calls", ()))
        if message.get("weight") != 0 and answer:
            own = {"id": _turn_id(row.id, number), "question": users[-1]["content"] or row.question, "group": group}
            alone = len(before) == 1 and not row.tools
            rows.append(
                row.model_copy(
                    update=own | {"messages": None if alone else before, "reference": answer, "rejected": None}
                )
            )
    return [*rows, row.model_copy(update={"group": group})] if rows else [row]


def is_earlier_turn(row: Question) -> bool:
    """Whether `turns_of` has made it, before the row's own answer."""
    return TURN.search(row.id) is not None


def _turn_id(name: str, number: int) -> str:
    end = f"/turn-{number}"
    return name + end if len(name) + len(end) <= MAX_ID else hashlib.sha256(name.encode()).hexdigest() + end


def as_upload(row: Question) -> Json:
    """A row's filled fields as they can be uploaded again: a conversation as `messages`, its answer beside them."""
    given = row.model_dump(mode="json", exclude={"split"} | ({"question"} if row.messages is not None else set()))
    return {name: part for name, part in given.items() if part}


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
