"""Templates of OpenAI's graders and evals: texts with {{item.field}} and {{sample.output_text}}. Nothing is computed: a place is replaced
by the value at its path."""

import contextlib
import json
import re
from typing import Any

from shared.contracts.json_types import Json

PLACE = re.compile(r"{{(.*?)}}", re.DOTALL)
PATH = re.compile(r"(item|sample)((?:\.[^\s.{}\[\]]+|\[\d{1,6}\])*)")
PART = re.compile(r"\.([^\s.{}\[\]]+)|\[(\d+)\]")
SAMPLE_FIELDS = frozenset({"output_text", "output_json", "output_tools", "choices"})


class MissingField(ValueError):
    """The item or the sample has nothing at a template's path."""


def checked_template(text: str) -> str:
    """The template. Raises ValueError for a place that no item or sample could fill."""
    for path in places(text):
        match = PATH.fullmatch(path)
        if match is None:
            raise ValueError(f"{{{{{path[:80]}}}}}: a template has {{{{item.FIELD}}}} and {{{{sample.output_text}}}}")
        if match[1] == "sample" and (first := PART.match(match[2])) and first[1] not in SAMPLE_FIELDS:
            raise ValueError(f"{{{{{path[:80]}}}}}: a sample has {', '.join(sorted(SAMPLE_FIELDS))}")
    return text


def places(text: str) -> list[str]:
    """The paths in a template."""
    return [place.strip() for place in PLACE.findall(text)]


def filled(text: str, item: Json, sample: Json) -> str:
    """The template with its values: texts as they are, all else as JSON. Raises MissingField."""
    return PLACE.sub(lambda place: _as_text(at_path(place[1].strip(), item, sample)), text)


def at_path(path: str, item: Json, sample: Json) -> Any:
    """The value at a path such as item.answers[0].text. Raises MissingField."""
    match = PATH.fullmatch(path)
    value: Any = {"item": item, "sample": sample}[match[1]] if match else None
    for name, number in PART.findall(match[2]) if match else ():
        if number and isinstance(value, list) and int(number) < len(value):
            value = value[int(number)]
        elif name and isinstance(value, dict) and name in value:
            value = value[name]
        elif name.isdecimal() and isinstance(value, list) and int(name) < len(value):
            value = value[int(name)]
        else:
            there = ", ".join(list(value)[:20]) if isinstance(value, dict) else type(value).__name__
            raise MissingField(f"{path}: there is no {name or number!r}; there is {there or 'nothing'}")
    if value is None:
        raise MissingField(f"{path} is null")
    return value


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def sample_of(answer: str) -> Json:
    """The sample of an answer. output_json: its JSON value; left out where it has none, or one that no JSON text in UTF-8 can carry (NaN,
    an infinite number, half of a surrogate pair)."""
    sample: Json = {"output_text": answer, "choices": [{"message": {"role": "assistant", "content": answer}}]}
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(answer)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        sample["output_json"] = value
    return sample


def item_of(question: str, reference: str, more: Json | None = None) -> Json:
    """The item of a row: all of its own fields, its question, and its reference where it has one."""
    return {"question": question} | ({"reference": reference} if reference else {}) | (more or {})
