"""Mappings that are suggested where no shape is recognised: the texts of a row that a person would choose first."""

import re
from collections.abc import Sequence
from itertools import islice
from shlex import quote
from typing import Any

from shared.contracts.field_names import (
    asks,
    is_about,
    is_answer,
    is_numbering,
    is_strong_question,
    looks_like_answer,
    simple,
)
from shared.contracts.json_types import Json

# Words in the names of fields that a person would choose first where none is taken for the question or the answer: help desks,
# trackers, wikis. The likeliest first.
ASKED_LIKELY = (
    "description",
    "beschreibung",
    "body",
    "message",
    "topictitle",
    "subject",
    "betreff",
    "asunto",
    "sujet",
    "content",
    "text",
)
ANSWERED_LIKELY = (
    "acceptedanswer", "reply", "comment", "resolution", "notes", "response", "conversation", "body", "value", "content", "text", "html",
)  # fmt: skip


def mapping_hint(fields: Sequence[str]) -> str:
    """How the fields are named by hand, with names of the row: the first that do not describe it."""
    named = [name for name in fields if not is_about(name)] or list(fields)
    question, answer = [*named, "FIELD", "FIELD"][:2]
    return f"Name it, for example: {mapped_as(question=question, reference=answer)} (over HTTP the field mapping)"


def mapped_as(**columns: str) -> str:
    """The options of a command that name these fields, as a shell takes them."""
    pairs = [f"{field}={name}" for field, name in columns.items()]
    return " ".join(f"--map {pair if PLAIN.fullmatch(pair) else quote(pair)}" for pair in pairs)


PLAIN = re.compile(r"[\w.=+/@-]+")


def suggested_mapping(row: Json) -> str | None:
    """The same with the texts that the row holds, at any depth; None where it has no two of them."""
    places = texts_in(row, 0)
    asked = next(iter(sorted(places, key=_asked_rank)), None)
    answered = None if asked is None else likely_answer(row, asked)
    if asked is None or answered is None:
        return None
    if asked.partition(STAR)[0] != answered.partition(STAR)[0]:  # not members of one list: the first of each
        asked, answered = asked.replace(STAR, ".0"), answered.replace(STAR, ".0")
    return f"{mapped_as(question=asked, reference=answered)} (over HTTP the field mapping)"


def likely_answer(row: Json, asked: str = "") -> str | None:
    """The place of the text that is the likeliest answer, beside the question's; None where there is no text."""
    inside_of = asked.partition(STAR)[0] if STAR in asked else None
    places = [
        place
        for place in texts_in(row, 0)
        if place != asked and (inside_of is None or place.partition(STAR)[0] == inside_of)
    ]
    return next(iter(sorted(places, key=_answered_rank)), None)


def _asked_rank(place: str) -> int:
    name = place.rstrip(".").rpartition(".")[2]
    if is_strong_question(name):
        return 0
    if asks(name) and not is_numbering(name):
        return 1
    last = "comment" in simple(place) or is_numbering(name)
    return 2 + _word_rank(name, ASKED_LIKELY) + (MANY if last else 0)


def _answered_rank(place: str) -> int:
    *around, name = place.split(".")
    if is_answer(name) and simple(name) not in ("summary", "title"):
        return 0
    of_answers = any(looks_like_answer(part) for part in [*around, name]) and simple(name) != "resolution"
    if of_answers and not is_about(name):
        return 1
    return (
        2 + min(_word_rank(part, ANSWERED_LIKELY) for part in [*around, name]) + (MANY if place.count(".") > 4 else 0)
    )


MANY = 100


def _word_rank(name: str, words: Sequence[str]) -> int:
    """The place of the first of the words that the name holds; names that describe a row come last."""
    short = simple(name)
    rank = next((2 * place + (word != short) for place, word in enumerate(words) if word in short), 2 * len(words))
    return rank + (MANY if is_about(name) and rank == 2 * len(words) else 0)


STAR = ".*"


def texts_in(value: Any, depth: int) -> list[str]:
    """Dotted paths of the texts in a row; a star stands for the members of a list of objects."""
    places: list[str] = []
    for name, part in islice(value.items(), 50):
        inner, path = part, str(name)
        if isinstance(part, list) and part and isinstance(part[0], dict):
            inner, path = part[0], f"{name}{STAR}"
        if isinstance(inner, dict) and depth < 3:
            places += [f"{path}.{place}" for place in texts_in(inner, depth + 1)]
        elif (isinstance(part, list) and part and isinstance(part[0], str)) or (isinstance(part, str) and part.strip()):
            places.append(path)
    return places


def holds_answers(name: str, value: Any) -> bool:
    """Whether an unread field has a text in it, or is nested and has something under a name that speaks of an answer or of a text."""
    if isinstance(value, str):
        return bool(value.strip())
    inner = value[0] if isinstance(value, list) and value else value
    names = [name, *inner] if isinstance(inner, dict) else [name]
    if not isinstance(value, list | dict) or not value:
        return False
    return any(is_answer(one) or looks_like_answer(one) for one in names) or (
        isinstance(inner, dict) and simple(name) in NESTED and bool(texts_in(inner, 0))
    )


NESTED = {"body", "content", "comments", "conversationparts", "posts", "replies"}  # fields that hold texts inside
