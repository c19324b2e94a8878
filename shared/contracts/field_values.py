"""The value of a field as the text of a row: nested values, lists of answers, passages, numbers."""

import json
from collections.abc import Mapping
from typing import Any

from shared.contracts.field_names import PLACES, simple
from shared.contracts.json_types import Json
from shared.contracts.openai_rows import NotUsable


def mapped(row: Json, columns: Mapping[str, str]) -> Json:
    return {
        field: as_context(row[name]) if field == "context" else as_text(row[name]) for field, name in columns.items()
    }


def inside(value: Any, name: str, required: bool = False) -> Any:
    """The field of that name, or the value at a dotted path. Raises NotUsable where a required one is missing."""
    if isinstance(value, Mapping) and name in value:
        return value[name]
    first, dot, rest = name.partition(".")
    if isinstance(value, Mapping) and first in value and dot:
        return inside(value[first], rest, required)
    if isinstance(value, list) and first.isdecimal() and len(first) < 9:
        inner = value[int(first)] if int(first) < len(value) else None
        return inside(inner, rest, required) if dot else inner
    if not required:
        return None
    there = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
    raise NotUsable(name, f"the row has no such field; it has {there}")


def as_context(value: Any) -> str | None:
    """All passages of a context, a paragraph each."""
    if isinstance(value, dict):
        value = next(
            (part for name, part in value.items() if isinstance(part, list) and simple(name) in PLACES["context"]),
            value,
        )
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return "\n\n".join(value)
    return as_text(value)


def as_question(name: str, value: Any) -> str | None:
    """Raises NotUsable for an object or a list, of which nobody knows what is asked."""
    if isinstance(value, dict | list):
        raise NotUsable(name, "a text is expected")
    return as_text(value)


SAID_AS = ("text", "value", "human_readable")


def as_text(value: Any) -> str | None:
    """Numbers and booleans as text, of a list of answers the first, anything else as JSON; None for nothing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        alone = all(
            isinstance(item, str | int | float) or (isinstance(item, dict) and "text" in item) for item in value
        )
        return None if not value else as_text(value[0]) if alone else _json(value)
    if isinstance(
        value, dict
    ):  # SQuAD: {"text": [...], "answer_start": [...]}; TriviaQA's value, WikiSQL's human_readable
        said = next((value[name] for name in SAID_AS if isinstance(value.get(name), str | list)), None)
        if said is not None:
            return as_text(said)
    return str(value) if isinstance(value, int | float) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
