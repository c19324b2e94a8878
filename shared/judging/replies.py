"""The judge's structured replies: their schemas, strict parsing, and whether a critique gives the reference away."""

import contextlib
import json
import re
from difflib import SequenceMatcher
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic_core import from_json

from shared.contracts.json_types import Json
from shared.judging.graders import words
from shared.judging.prompts import response_format

QUOTED_WORDS = 8  # a run of this many words in common with a longer reference is a quotation
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\Z", re.DOTALL | re.IGNORECASE)


class Reply(BaseModel):
    """Strict: "yes" is not a boolean, and a missing or surplus field makes the reply invalid."""

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


class Choice(Reply):
    """Which answer is better, by criterion (shared/judging/prompts.py, CRITERIA)."""

    accuracy: Side
    completeness: Side
    relevance: Side
    coherence: Side
    reliability: Side
    overall: Side


Score = Literal[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]  # an enum in the schema: every engine's structured output knows it


class Rating(Reply):
    """How good one answer is, by criterion (shared/judging/prompts.py, SCALE)."""

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


AnyReply = TypeVar("AnyReply", bound=Reply)


def parse(kind: type[AnyReply], text: str, cut_off: bool = False) -> AnyReply | None:
    """The reply, or None. The whole text must be the object; a fence around it is tolerated.

    cut_off: the reply ended at its token limit. If that was inside its last string, the beginning of the string counts: the
    verdict is complete by then, half a hint is a hint, and another reply would cost as much.
    An object inside a longer text does not count: the judge may quote one from the student's answer.
    """
    text = text.strip()
    fenced = _FENCE.match(text)
    try:
        return kind.model_validate_json(fenced.group(1) if fenced else text)
    except ValidationError:
        return _unfinished(kind, text) if cut_off else None


def _unfinished(kind: type[AnyReply], text: str) -> AnyReply | None:
    with contextlib.suppress(ValueError):
        json.JSONDecoder().raw_decode(text)
        return None  # text follows a complete object
    try:
        return kind.model_validate(from_json(text, allow_partial="trailing-strings"))
    except ValueError:
        return None


def leaks(critique: str, reference: str) -> bool:
    """Whether the critique holds the whole reference, or a run of QUOTED_WORDS words of it, without regard to case and marks."""
    given, secret = words(critique), words(reference)
    if not secret:
        return bool(reference.strip()) and reference.strip() in critique
    if not given:
        return False
    run = SequenceMatcher(None, given, secret, autojunk=False).find_longest_match()
    return run.size >= min(len(secret), QUOTED_WORDS)
