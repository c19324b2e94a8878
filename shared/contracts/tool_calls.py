"""An assistant's message with tool calls as one text, and back: what is learned, graded and shown of an answer is always a text.

The text is the message's words, then each call on a line of its own as JSON with the name first and sorted arguments. Two answers
that make the same calls are therefore the same text, whatever the student's template writes around a call.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from shared.contracts.json_types import Json

# A mark of a chat template around a call: <tool_call>, [TOOL_CALLS], <|python_tag|>, a fence.
_MARK = re.compile(
    r"\A\s*(?:</?[^<>\s]{1,40}>|\[/?[A-Z_]{2,40}\]|```\w*)|(?:</?[^<>\s]{1,40}>|\[/?[A-Z_]{2,40}\]|```\w*)\s*\Z"
)
_DECODER = json.JSONDecoder(strict=False)
_MOST_STARTS = 200  # places of an answer where a call could begin


def answer_text(content: str | None, calls: Sequence[Json]) -> str:
    """calls: of a message in OpenAI's form. Raises ValueError for arguments that are no JSON object."""
    return "\n".join(filter(None, [(content or "").strip(), *map(_line, calls)]))


def _line(call: Json) -> str:
    function = call["function"]
    return _written(function["name"], _object(function.get("arguments")))


def _object(arguments: Any) -> Json:
    value = json.loads(arguments or "{}") if isinstance(arguments, str) or arguments is None else arguments
    if not isinstance(value, dict):
        raise ValueError("the arguments of a call are a JSON object")
    return value


def _written(name: str, arguments: Json) -> str:
    ordered = json.loads(json.dumps(arguments, sort_keys=True))
    return json.dumps({"name": name, "arguments": ordered}, ensure_ascii=False)


def read_answer(text: str, names: Collection[str]) -> tuple[str, list[Json]]:
    """(words, calls in OpenAI's form) of a text that `answer_text` or `normal_answer` made. names: of the tools that are offered."""
    lines, calls = text.split("\n"), []
    while lines and (call := _call(_value(lines[-1]), names)):
        lines.pop()
        calls.insert(0, call)
    return "\n".join(lines).strip() if calls else text, [_of_openai(n, *call) for n, call in enumerate(calls)]


def _of_openai(number: int, name: str, arguments: Json) -> Json:
    written = json.dumps(arguments, ensure_ascii=False)
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": name, "arguments": written}}


def normal_answer(text: str, names: Collection[str]) -> str:
    """A model's own text with its calls in one form; a text without a call of an offered tool stays as it is.

    Read are calls in JSON, {"name", "arguments" or "parameters"}, alone or in a list, with any marks around them.
    """
    words, calls, end = [], [], 0
    for start, stop, one in _found(text, names):
        words.append(_without_marks(text[end:start]))
        calls += one
        end = stop
    if not calls:
        return text
    words.append(_without_marks(text[end:]))
    return "\n".join([*filter(None, words), *(_written(*call) for call in calls)])


def _found(text: str, names: Collection[str]) -> Iterator[tuple[int, int, list[tuple[str, Json]]]]:
    """(start, end, calls) of each JSON value that is a call, or a list of calls."""
    place = 0
    for _ in range(_MOST_STARTS):
        start = min((at for at in (text.find("{", place), text.find("[", place)) if at >= 0), default=-1)
        if start < 0:
            return
        place = start + 1
        try:
            value, stop = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        calls = [_call(one, names) for one in (value if isinstance(value, list) else [value])]
        if calls and all(calls):
            yield start, stop, [call for call in calls if call]
            place = stop


def _value(line: str) -> Any:
    try:
        return json.loads(line) if line.startswith("{") else None
    except (ValueError, RecursionError):
        return None


def _call(value: Any, names: Collection[str]) -> tuple[str, Json] | None:
    """(name, arguments) of an object that calls one of the offered tools."""
    if not isinstance(value, dict):
        return None
    inner = value.get("function")
    value = inner if isinstance(inner, dict) else value
    name, arguments = value.get("name"), value.get("arguments", value.get("parameters"))
    if not isinstance(name, str) or name not in names:
        return None
    try:
        return name, _object(arguments)
    except ValueError:
        return None


def _without_marks(text: str) -> str:
    while (less := _MARK.sub("", text.strip())) != text:
        text = less
    return text
