"""A conversation as the engine's chat template gets it: text contents, one system text in front, calls as the template can show them."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from shared.contracts.json_types import Json

SYSTEM_ROLES = ("system", "developer")
RESULTS = ("tool", "function")


class Conversation(NamedTuple):
    """messages: for the engine. places: for each of them its index in the request; None for one that we added."""

    messages: list[Json]
    places: list[int | None]


def conversation(given: Sequence[Json], system: str, native_calls: bool, extra: str = "") -> Conversation:
    """given: messages of a `ChatRequest`. system: the text that stands in front where the request has none; empty: none does.
    native_calls: the template shows calls and results itself; else they become text. extra: stands at the end of the system text."""
    turns = [(place, _turn(message)) for place, message in enumerate(given)]
    head = _leading(turns)
    rest = turns[len(head) :]
    has_own = any(turn["role"] == "system" for _, turn in turns)
    texts = [text for text in [*(head if has_own else [system]), extra] if text]
    messages: list[Json] = [{"role": "system", "content": "\n\n".join(texts)}] if texts or head else []
    places: list[int | None] = [0 if head else None] if messages else []
    names = {call["id"]: call["function"]["name"] for _, turn in rest for call in turn.get("tool_calls", ())}
    joins = False  # the last message is a result in words, so that a user's message goes on with it
    for place, turn in rest:
        shown = turn if native_calls else _as_text(turn, names)
        in_words = shown is not turn
        if messages and (in_words or joins) and messages[-1]["role"] == shown["role"] == "user":
            messages[-1] = messages[-1] | {"content": f"{messages[-1]['content']}\n\n{shown['content']}"}
        else:
            messages.append(shown)
            places.append(place)
        joins = in_words and shown["role"] == "user"
    return Conversation(messages, places)


def has_calls(given: Sequence[Json]) -> bool:
    return any(message["role"] in RESULTS or message.get("tool_calls") for message in given)


def text_of(content: str | list[Json] | None) -> str:
    """The parts of a content as one text, a line each, as the engine joins them."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.get("text") or part.get("refusal") or "" for part in content)


def _leading(turns: Sequence[tuple[int, Json]]) -> list[str]:
    """The texts of the system messages in front."""
    texts: list[str] = []
    for _, turn in turns:
        if turn["role"] != "system":
            break
        texts.append(turn["content"])
    return texts


def _turn(message: Json) -> Json:
    """A message with the fields and roles that chat templates know."""
    role = message["role"]
    role = "system" if role in SYSTEM_ROLES else "tool" if role in RESULTS else role
    turn: Json = {"role": role, "content": text_of(message.get("content"))}
    if role == "tool":
        turn["tool_call_id"] = message.get("tool_call_id") or message.get("name") or ""
    if message.get("name"):
        turn["name"] = message["name"]
    calls = list(message.get("tool_calls") or [])
    if message.get("function_call"):
        calls.append({"id": message["function_call"]["name"], "function": message["function_call"]})
    if calls and role == "assistant":
        turn["tool_calls"] = [_call(call, number) for number, call in enumerate(calls)]
    return turn


def _call(call: Json, number: int) -> Json:
    arguments = call["function"].get("arguments") or "{}"
    try:
        json.loads(arguments)
    except ValueError:  # a model may have written anything; the engine parses it
        arguments = json.dumps({"input": arguments})
    function = {"name": call["function"]["name"], "arguments": arguments}
    return {"id": call.get("id") or f"call_{number}", "type": "function", "function": function}


def _as_text(turn: Json, names: dict[str, str]) -> Json:
    """A call or a result as a turn of words, for templates that know neither; any other turn itself."""
    if turn["role"] == "tool":
        name = turn.get("name") or names.get(turn["tool_call_id"]) or "the function"
        return {"role": "user", "content": f"Result of {name}: {turn['content']}"}
    calls = turn.get("tool_calls")
    if not calls:
        return turn
    written = [
        json.dumps({"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])})
        for call in calls
    ]
    return {"role": "assistant", "content": "\n".join(filter(None, [turn["content"], *written]))}
