"""Tools: which calls a request allows, and calls that are asked for by a JSON schema where one is required.

auto: the engine's parser finds the calls, where the engine has one. required or a named function: the answer is guided JSON, which
becomes a call, whatever the model and its template can.
"""

import json
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from shared.contracts.errors import UserError
from shared.contracts.json_types import Json

HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*', re.DOTALL)
LEGACY = ("functions", "function_call")
FIELDS = ("tools", "tool_choice", "parallel_tool_calls", *LEGACY)


class ToolUse(NamedTuple):
    """offered: the tools, as OpenAI has them. must: a call is required. named: of this function. legacy: the request spoke of
    functions, and so does its answer. parallel: several calls at once are allowed."""

    offered: list[Json]
    must: bool = False
    named: str | None = None
    legacy: bool = False
    parallel: bool = True

    @property
    def only(self) -> str | None:
        """The one function that can be called."""
        return self.named or (self.offered[0]["function"]["name"] if len(self.offered) == 1 else None)


def tool_use(body: Json) -> ToolUse | None:
    """What a request says of tools; None where it offers none, or forbids them. Raises UserError."""
    legacy = not body.get("tools") and bool(body.get("functions"))
    offered = body.get("tools") or [{"type": "function", "function": one} for one in body.get("functions") or []]
    choice = body.get("tool_choice") if not legacy else body.get("function_call")
    where = "function_call" if legacy else "tool_choice"
    if not offered:
        if choice not in (None, "none", "auto"):
            raise UserError(f"{where} asks for a call, and there are no tools", param=where, code="invalid_value")
        return None
    if choice == "none":
        return None
    parallel = body.get("parallel_tool_calls") is not False
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools") or choice
        names = [name for name in map(name_of, allowed.get("tools") or []) if name]
        offered = [tool for tool in offered if tool["function"]["name"] in names]
        if not offered:
            raise UserError("tool_choice allows none of the tools", param="tool_choice", code="invalid_value")
        choice = allowed.get("mode")
    if not isinstance(choice, dict):
        return ToolUse(offered, must=choice == "required", legacy=legacy, parallel=parallel)
    name = name_of(choice)
    names = [tool["function"]["name"] for tool in offered]
    if name not in names:
        raise UserError(
            f"{where} names {name!r}, and the tools are {', '.join(names)}", param=where, code="invalid_value"
        )
    return ToolUse(offered, must=True, named=name, legacy=legacy, parallel=parallel)


def name_of(tool: Any) -> str | None:
    """Of {"function": {"name": ...}} and of {"name": ...}."""
    inner = tool.get("function", tool) if isinstance(tool, dict) else None
    return inner.get("name") if isinstance(inner, dict) else None


# what is asked of the engine


def guided(use: ToolUse) -> Json:
    """The response_format of a required call: the arguments alone where only one function can be called, else name and arguments."""
    chosen = [tool["function"] for tool in use.offered if use.named in (None, tool["function"]["name"])]
    if len(chosen) == 1:
        schema = _arguments(chosen[0])
    else:
        definitions = {f"tool_{n}": _moved(_arguments(one), f"tool_{n}") for n, one in enumerate(chosen)}
        calls = [
            {
                "type": "object",
                "properties": {"name": {"const": one["name"]}, "arguments": {"$ref": f"#/$defs/tool_{n}"}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for n, one in enumerate(chosen)
        ]
        schema = {"$defs": definitions, "anyOf": calls}
    return {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}


def _arguments(function: Json) -> Json:
    return {"type": "object"} | (function.get("parameters") or {"properties": {}})


def _moved(schema: Any, name: str) -> Any:
    """A schema that now stands below $defs: its own references follow it."""
    if isinstance(schema, list):
        return [_moved(one, name) for one in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value, name) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = f"#/$defs/{name}{reference[1:]}"
    return moved


def instructions(use: ToolUse) -> str:
    """What the model is told of the tools of a guided call, since its template may not show them."""
    chosen = [tool["function"] for tool in use.offered if use.named in (None, tool["function"]["name"])]
    lines = [
        f"{one['name']}: {one.get('description') or ''} Arguments: {json.dumps(_arguments(one))}" for one in chosen
    ]
    if use.only:
        return f"Call this function. Write its arguments as JSON and nothing else.\n{lines[0]}"
    return "\n".join(["Call one of these functions. Write its name and arguments as JSON and nothing else.", *lines])


# what becomes of the answer


@dataclass
class CallReader:
    """The guided JSON of one call, in as many parts as it comes. only: the function, where the text is its arguments alone."""

    only: str | None
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")
    name: str | None = None
    arguments: str = ""
    begun: bool = False  # its name was told
    _text: str = ""
    _depth: int = 0
    _quoted: bool = False
    _escaped: bool = False
    _over: bool = False

    def __post_init__(self) -> None:
        self.name = self.only

    def read(self, part: str) -> str:
        """Takes a part of the text; returns what it adds to the arguments."""
        self._text += part
        if self.name is None:
            head = HEAD.match(self._text)
            if head is None:
                return ""
            self.name, self._text = json.loads(head[1]), self._text[head.end() :]
        added = "".join(self._of_arguments(self._text))
        self._text = ""
        self.arguments += added
        return added

    def _of_arguments(self, text: str) -> Iterator[str]:
        """The characters of the first JSON object."""
        for character in text:
            if self._over:
                return
            if self._quoted:
                self._quoted = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._quoted = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                self._over = self._depth == 0
            if self._depth or self._over:
                yield character


def call_of(reader: CallReader) -> Json:
    return {
        "id": reader.id,
        "type": "function",
        "function": {"name": reader.name or "", "arguments": reader.arguments},
    }


def ended(use: ToolUse, finish_reason: str | None) -> str | None:
    """Why a call ended, as OpenAI says it: a named function's call just stops, and a cut one stays cut."""
    if finish_reason != "stop":
        return finish_reason
    if use.legacy:
        return "stop" if use.named else "function_call"
    return "stop" if use.named else "tool_calls"


def with_call(message: Json, use: ToolUse) -> Json:
    """A whole message whose content is the guided JSON of a call, as a message with that call."""
    reader = CallReader(use.only)
    reader.read(message.get("content") or "")
    return as_legacy(message | {"content": None, "tool_calls": [call_of(reader)]}, use)


def as_legacy(message: Json, use: ToolUse | None) -> Json:
    """The first call in the older field, for a request that spoke of functions."""
    calls: Sequence[Json] = message.get("tool_calls") or []
    if use is None or not use.legacy or not calls:
        return message
    rest = {name: value for name, value in message.items() if name != "tool_calls"}
    return rest | {"function_call": calls[0]["function"]}
