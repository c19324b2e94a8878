"""The judge's structured replies: their schemas, how what it wrote is read, and whether a critique gives the reference away."""

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from difflib import SequenceMatcher
from functools import cache
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model, field_validator

from shared.contracts import loose_json
from shared.contracts.json_types import Json
from shared.judging.graders import words
from shared.judging.prompts import response_format

QUOTED_WORDS = 8  # a run of this many words in common with a longer reference is a quotation
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\Z", re.DOTALL | re.IGNORECASE)
TRUE = frozenset({"true", "yes", "y", "pass", "passed", "passes", "correct", "right", "1", "1.0"})
FALSE = frozenset({"false", "no", "n", "fail", "failed", "fails", "incorrect", "wrong", "not correct", "0", "0.0"})
TIES = frozenset({"tie", "tied", "equal", "equally good", "draw", "both", "neither", "none", "same", "no difference"})
OTHER_NAMES = {  # of a field, where a reply has it under none of its own
    "correct": ("iscorrect", "answeriscorrect", "verdict", "judgment", "judgement", "decision", "passed"),
    "critique": ("feedback", "comment"),
}
_SAID = re.compile(  # a verdict in prose or in a tag
    r"(?:^|[\n.>])[\s\W]*(?:final |my )?(?:correct|is correct|verdict|judge?ment|decision)[\s*_\"'`]*(?:[:=>]|is\b)[\s*_\"'`]*"
    r"(not correct|[a-z]+)",
    re.IGNORECASE,
)
_LEADING = re.compile(r"\A(yes|no|true|false)\s*[,;:(-].*", re.DOTALL)
_ANSWER = re.compile(r"\A(?:answer|response|option|assistant|model)[\s_-]*(?=[ab]\Z)")
_SCORE = re.compile(r"(\d{1,2}(?:\.\d+)?)(?:\s*(?:/|of|out of)\s*10)?(?:\s*points?)?")


class Reply(BaseModel):
    """What the schema asks for, strictly; `read` takes what judges really write."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @classmethod
    def format(cls) -> Json:
        """The response_format that asks for it."""
        return response_format(cls.__name__.lower(), cls.model_json_schema())


class Decision(Reply):
    correct: bool


class Review(Reply):
    correct: bool
    critique: str


class Critique(Reply):
    critique: str


Side = Literal["A", "B", "tie"]


# What the schemas say of themselves is a part of each request: with another text no answer that was paid for is found again.
CHOICE = "Which answer is better, by criterion (services/judge/prompts.py, CRITERIA)."
RATING = "How good one answer is, by criterion (services/judge/prompts.py, SCALE)."


class Choice(Reply):
    """Which answer is better, by criterion (shared/judging/prompts.py, CRITERIA)."""

    model_config = ConfigDict(json_schema_extra={"description": CHOICE})

    accuracy: Side
    completeness: Side
    relevance: Side
    coherence: Side
    reliability: Side
    overall: Side


Score = Literal[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]  # an enum in the schema: every engine's structured output knows it


class Rating(Reply):
    """How good one answer is, by criterion (shared/judging/prompts.py, SCALE)."""

    model_config = ConfigDict(json_schema_extra={"description": RATING})

    @field_validator("*", mode="before")
    @classmethod
    def _a_number(cls, value: Any) -> Any:
        if isinstance(value, bool):  # Python takes true for 1
            raise ValueError("a score is a number")
        return value

    accuracy: Score
    completeness: Score
    relevance: Score
    coherence: Score
    reliability: Score
    overall: Score


VERDICTS: tuple[type[Reply], ...] = (Decision, Review, Choice, Rating)


@cache
def analysed(kind: type[Reply]) -> type[Reply]:
    """The same reply with an analysis in front: an engine that keeps to a schema writes its fields in their order."""
    fields: dict[str, Any] = {name: (field.annotation, ...) for name, field in kind.model_fields.items()}
    made: type[Reply] = create_model(f"Analysed{kind.__name__}", __base__=Reply, analysis=(str, ...), **fields)
    return made


AnyReply = TypeVar("AnyReply", bound=Reply)


def parse(kind: type[AnyReply], text: str, cut_off: bool = False) -> AnyReply | None:
    """The reply, or None where it cannot be read; see `read`."""
    return read(kind, text, cut_off)[0]


def read_analysed(kind: type[AnyReply], text: str, cut_off: bool = False) -> tuple[AnyReply | None, bool]:
    """As `read`, of a reply that begins with an analysis, which is left out. A reply without one is a verdict too."""
    fenced = _FENCE.match(text.strip())
    try:
        whole = analysed(kind).model_validate_json(fenced.group(1) if fenced else text.strip())
    except ValidationError:
        return read(kind, text, cut_off)
    return kind.model_validate(whole.model_dump(exclude={"analysis"})), False


def read(kind: type[AnyReply], text: str, cut_off: bool = False) -> tuple[AnyReply | None, bool]:
    """(the reply or None, whether it had to be mended). A fence around the object is no slip.

    Of several objects the last one counts that has a field of this kind: the judge may quote one from the student's answer
    first. What its fields say is taken as it is meant ("yes" for true, "8/10" for 8); a missing critique is "".
    cut_off: the reply ended at its token limit. If that was inside its critique, the beginning of it counts: the verdict is
    complete by then, half a hint is a hint, and another reply would cost as much.
    """
    fenced = _FENCE.match(text.strip())
    try:
        return kind.model_validate_json(fenced.group(1) if fenced else text.strip()), False
    except ValidationError:
        with contextlib.suppress(RecursionError):
            return _mended(kind, text, cut_off), True
        return None, True


def _mended(kind: type[AnyReply], text: str, cut_off: bool) -> AnyReply | None:
    for value in reversed(loose_json.values(text, cut_off=cut_off)):
        fields = _fields(kind, value)
        if fields:
            return _valid(kind, fields)
    if cut_off:
        return None
    if "correct" in kind.model_fields and (verdict := _truth(loose_json.without_reasoning(text))) is not None:
        return _valid(kind, {"correct": verdict})
    if fields := _fields(kind, loose_json.members(text)):
        return _valid(kind, fields)
    said = _SAID.findall(loose_json.without_reasoning(text)) if "correct" in kind.model_fields else []
    return _valid(kind, {"correct": said[-1]} if said else {})


def _valid(kind: type[AnyReply], fields: Json) -> AnyReply | None:
    mended = {
        name: _MENDED[name](value) if name in _MENDED else _side_or_score(kind, value) for name, value in fields.items()
    }
    if "correct" in fields and "critique" in kind.model_fields:
        mended.setdefault("critique", "")
    try:
        return kind.model_validate(mended)
    except ValidationError:
        return None


def _fields(kind: type[Reply], value: Any, depth: int = 3) -> Json:
    """The fields of this kind in a value: in it, or in what it wraps (a list of one, an object under one of its names, JSON as a
    string). Names are compared without regard to case."""
    value = _only(value)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, bool) and "correct" in kind.model_fields:
        return {"correct": value}
    if not isinstance(value, dict):
        return {}
    names = {re.sub(r"[\W_]+", "", str(name)).casefold(): name for name in value}
    fields = {name: value[names[name]] for name in kind.model_fields if name in names}
    for name in kind.model_fields.keys() - fields.keys():
        other = next((names[other] for other in OTHER_NAMES.get(name, ()) if other in names), None)
        fields |= {} if other is None else {name: value[other]}
    if fields or not depth:
        return fields
    wrapped = [part for part in value.values() if isinstance(part, dict | list | str)]
    return next((inner for part in wrapped if (inner := _fields(kind, part, depth - 1))), {})


def _only(value: Any) -> Any:
    """What a list of one holds; anything else as it is."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _word(value: Any) -> str:
    return str(_only(value)).strip(" \t\n.!*_\"'`()[]").casefold()


def _truth(value: Any) -> bool | None:
    """true, yes, pass, 1 and their like; None for what is neither true nor false."""
    word = _LEADING.sub(r"\1", _word(value))
    return True if word in TRUE else False if word in FALSE else None


def _text(value: Any) -> str:
    value = _only(value)
    if isinstance(value, list):
        return " ".join(_text(part) for part in value)
    if isinstance(value, dict):
        return " ".join(_text(part) for part in value.values())
    return "" if value is None else loose_json.sound(str(value))


def _side_or_score(kind: type[Reply], value: Any) -> Any:
    word = _word(value)
    if kind is Choice:
        side = _ANSWER.sub("", word)
        return {"a": "A", "b": "B", "first": "A", "second": "B"}.get(side) or ("tie" if side in TIES else value)
    if isinstance(_only(value), bool) or not (score := _SCORE.fullmatch(word)):
        return value
    return int(float(score.group(1)) + 0.5)


_MENDED: Mapping[str, Callable[[Any], Any]] = {"correct": _truth, "critique": _text}


def leaks(critique: str, reference: str) -> bool:
    """Whether the critique holds the whole reference, or a run of QUOTED_WORDS words of it, without regard to case and marks."""
    given, secret = words(critique), words(reference)
    if not secret:
        return bool(reference.strip()) and reference.strip() in critique
    if not given:
        return False
    run = SequenceMatcher(None, given, secret, autojunk=False).find_longest_match()
    return run.size >= min(len(secret), QUOTED_WORDS)
