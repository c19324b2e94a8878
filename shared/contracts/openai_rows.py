"""OpenAI's chat rows and preference pairs as rows of a dataset. Pure functions, no I/O.

A row asks for one message of the assistant: the last one that is to be learned (`weight` 0 says no). What stands before it stays as
messages, with the tools that are offered; its own text is the reference, calls included. A single message of the user is a plain
question. A conversation that ends with the user, or with a tool's result, asks for the answer and has no reference.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from shared.contracts.conversation import RESULTS, SYSTEM_ROLES, text_of
from shared.contracts.json_types import Json
from shared.contracts.tool_calls import answer_text

ROLES = (*SYSTEM_ROLES, "user", "assistant", *RESULTS)
NO_TEXT = ("audio",)  # an answer made of it is none in words


class NotUsable(ValueError):
    """where: the dotted name of the message that cannot be used. Its text says what is expected there."""

    def __init__(self, where: str, message: str):
        super().__init__(f"{where}: {message}")
        self.where = where


PREFERENCE = ("input", "preferred_output", "non_preferred_output")  # fields of a row of OpenAI's preference format


def from_preference(row: Mapping[str, Any]) -> Json:
    """The fields of a dataset row from one in OpenAI's preference format. Raises NotUsable."""
    asked = row.get("input")
    if not isinstance(asked, dict):
        raise NotUsable("input", 'an object {"messages": [...]} is expected')
    tools = read_tools(asked, "input.")
    question = from_messages(asked.get("messages"), "input.messages", tools)
    if question["reference"] is not None:
        raise NotUsable("input.messages", "the last message must be the user's; the answers stand in the outputs")
    preferred, other = (_output(name, row.get(name), tools) for name in PREFERENCE[1:])
    return question | {"reference": preferred, "rejected": other}


def _output(name: str, messages: Any, tools: Sequence[Json]) -> str:
    """The text of the assistant's one message."""
    if not isinstance(messages, list) or len(messages) != 1:
        raise NotUsable(name, "a list of one message of the role assistant is expected")
    turn = _turn(f"{name}.0", messages[0])
    if turn["role"] != "assistant":
        raise NotUsable(f"{name}.0.role", f"{turn['role']!r} is not assistant")
    text = _answer(f"{name}.0", turn, tools)
    if not text.strip():
        raise NotUsable(f"{name}.0.content", "an answer is expected, not a blank")
    return text


def from_messages(messages: Any, where: str = "messages", tools: Sequence[Json] = ()) -> Json:
    """{question, context, reference} and, of a conversation, {messages, tools}: the messages before the answer and what is offered.
    where: their place in the row, for errors. Raises NotUsable."""
    if not isinstance(messages, list) or not messages:
        raise NotUsable(where, "a list of {role, content} objects is expected")
    turns = [_turn(f"{where}.{number}", message) for number, message in enumerate(messages)]
    users = [number for number, turn in enumerate(turns) if turn["role"] == "user"]
    if not users:
        raise NotUsable(where, "no message of the role user, so there is no question")
    answer = _wanted(turns, users[0])
    if answer is None:
        end = len(turns) - 1
        while turns[end]["role"] == "assistant" and end > users[0]:  # answers that nothing is to be learned of
            end -= 1
        before, reference = turns[: end + 1], None
    else:
        late = [turn for turn in turns[answer + 1 :] if turn["role"] == "system"]
        before = turns[:answer] + (late if late == turns[answer + 1 :] else [])
        reference = _answer(f"{where}.{answer}", turns[answer], tools)
    question = next(turn for turn in reversed(before) if turn["role"] == "user")
    row: Json = {"question": question["content"], "context": None, "reference": reference}
    if len(before) == 1 and not tools:
        row["question"] = _joined(messages[users[0]]["content"])
        return row
    return row | {"messages": before, "tools": list(tools) or None}


def _wanted(turns: Sequence[Json], first: int) -> int | None:
    """The place of the answer: the last one of the assistant that is to be learned. None where the conversation goes on after all
    of them, or there is none. first: the place of the user's first message."""
    answers = [n for n, turn in enumerate(turns) if turn["role"] == "assistant" and n > first]
    wanted = [n for n in answers if turns[n].get("weight") != 0]
    if not wanted or any(turn["role"] in ("user", "tool") for turn in turns[answers[-1] + 1 :]):
        return None
    return wanted[-1]


def answer_of(message: Json) -> str:
    """The text of an assistant's message, its calls included. Raises NotUsable."""
    turn = _turn("answer", {"role": "assistant"} | message)
    return answer_text(turn["content"], turn.get("tool_calls", ()))


def agreement_of(choices: Sequence[Json]) -> float | None:
    """The share of choices that say the same as most of them, whatever their case and blanks; None for less than two. A choice that
    cannot be read agrees with none."""
    if len(choices) < 2:
        return None
    said = Counter(text for choice in choices if (text := _said(choice)) is not None)
    return max(said.values(), default=0) / len(choices)


def _said(choice: Json) -> str | None:
    try:
        return " ".join(answer_of(choice.get("message") or {}).casefold().split()) or None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _answer(where: str, turn: Json, tools: Sequence[Json]) -> str:
    calls = turn.get("tool_calls") or []
    names = [tool["function"]["name"] for tool in tools]
    for number, call in enumerate(calls):
        name = call["function"]["name"]
        if name not in names:
            offered = f"the row offers {', '.join(names)}" if names else "the row offers no tools"
            raise NotUsable(
                f"{where}.tool_calls.{number}", f"the answer calls {name!r}, and {offered}; name it in tools"
            )
    return answer_text(turn["content"], calls)


def _turn(where: str, message: Any) -> Json:
    """A message with the fields that are used, in one form: text content, developer as system, function as tool, calls as
    `tool_calls` with their arguments as JSON; weight 0 alone is kept."""
    if not isinstance(message, dict):
        raise NotUsable(where, "an object with role and content is expected")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise NotUsable(f"{where}.role", f"{str(role)[:50]!r} is not one of {', '.join(ROLES)}")
    unsupported = next((name for name in NO_TEXT if message.get(name)), None)
    if unsupported:
        raise NotUsable(
            f"{where}.{unsupported}", "only texts can be trained on; leave the row out, or write the answer as text"
        )
    calls = _calls(where, message) if role == "assistant" else []
    content = message.get("content")
    if content is None and role == "assistant" and not calls and message.get("refusal"):
        content = message["refusal"]
    turn: Json = {
        "role": "system" if role in SYSTEM_ROLES else "tool" if role in RESULTS else role,
        "content": "" if content is None and calls else _text(f"{where}.content", content),
    }
    if calls:
        turn["tool_calls"] = calls
    if turn["role"] == "tool" and isinstance(message.get("tool_call_id"), str):
        turn["tool_call_id"] = message["tool_call_id"]
    if isinstance(message.get("name"), str) and message["name"]:
        turn["name"] = message["name"]
    if role == "assistant" and message.get("weight") == 0:
        turn["weight"] = 0
    return turn


def _calls(where: str, message: Json) -> list[Json]:
    """Raises NotUsable for what is no call, or has arguments that are no JSON object."""
    given = message.get("tool_calls") or []
    field = "tool_calls"
    if not given and message.get("function_call"):
        given, field = [{"function": message["function_call"]}], "function_call"
    if not isinstance(given, list):
        raise NotUsable(f"{where}.{field}", "a list of calls is expected")
    return [_call(f"{where}.{field}.{number}", call, number) for number, call in enumerate(given)]


def _call(where: str, call: Any, number: int) -> Json:
    function = call.get("function") if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise NotUsable(where, 'a call {"function": {"name", "arguments"}} is expected')
    arguments = function.get("arguments")
    try:
        value = json.loads(arguments or "{}") if isinstance(arguments, str) or arguments is None else arguments
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise NotUsable(f"{where}.function.arguments", "a JSON object is expected, as a text or as it is")
    written = arguments if isinstance(arguments, str) and arguments else json.dumps(value, ensure_ascii=False)
    given = call.get("id")
    return {
        "id": given if isinstance(given, str) and given else f"call_{number}",
        "type": "function",
        "function": {"name": name, "arguments": written},
    }


def read_tools(row: Mapping[str, Any], where: str = "") -> list[Json]:
    """The tools that a row offers in `tools` or the older `functions`, each {"type": "function", "function": {...}}; also as a text
    of JSON, and as functions alone. where: stands before the field's name in errors. Raises NotUsable."""
    field = "tools" if row.get("tools") else "functions"
    given = row.get(field)
    if isinstance(given, str):
        try:
            given = json.loads(given or "[]")
        except (ValueError, RecursionError):
            raise NotUsable(f"{where}{field}", "a list of tools is expected, and the text is not JSON") from None
    if not given:
        return []
    if not isinstance(given, list):
        raise NotUsable(f"{where}{field}", "a list of tools is expected")
    return [_tool(f"{where}{field}.{number}", tool) for number, tool in enumerate(given)]


def _tool(where: str, tool: Any) -> Json:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise NotUsable(where, 'a tool {"type": "function", "function": {"name", "parameters"}} is expected')
    parameters, description = function.get("parameters"), function.get("description")
    if not isinstance(parameters, dict | None) or not isinstance(description, str | None):
        raise NotUsable(f"{where}.function", "parameters is a JSON schema, description a text")
    known = {name: function[name] for name in ("name", "description", "parameters", "strict") if name in function}
    return {"type": "function", "function": known}


def _text(where: str, content: Any) -> str:
    """A text, or OpenAI's list of text parts, a line each, as an engine joins them."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise NotUsable(where, "a text is expected")
    for number, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise NotUsable(f"{where}.{number}", 'only parts of the form {"type": "text", "text": ...} can be used')
    return text_of(content)


def _joined(content: Any) -> str:
    """The parts of a plain question, a paragraph each."""
    return content if isinstance(content, str) else "\n\n".join(part["text"] for part in content)
