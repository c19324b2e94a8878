"""A conversation as a student's chat template gets it, in training, evaluation, search and public chat alike: text contents, one
system text in front, calls as the template can show them."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field

from shared.contracts.answer_format import SYSTEM
from shared.contracts.json_types import Json
from shared.contracts.steps import Wire
from shared.contracts.tool_calls import answer_text, read_answer

SYSTEM_ROLES = ("system", "developer")
RESULTS = ("tool", "function")


def _is_empty(value: list) -> bool:
    return not value


class Conversation(Wire):
    """What stands before an answer: the messages, and the definitions of the tools that are offered, both in OpenAI's form."""

    messages: list[Json]
    tools: list[Json] = Field(default=[], exclude_if=_is_empty)

    @property
    def names(self) -> frozenset[str]:
        """Of the tools."""
        return frozenset(tool["function"]["name"] for tool in self.tools)

    @property
    def head(self) -> int:
        """How many messages stand in front of the turns: the system text, or none."""
        return int(bool(self.messages) and self.messages[0]["role"] == "system")


class TemplateMessages(NamedTuple):
    """messages: for the chat template. places: for each of them its index in the request; None for one that we added."""

    messages: list[Json]
    places: list[int | None]


def student_conversation(messages: Sequence[Json], tools: Sequence[Json], shows_calls: bool) -> Conversation:
    """What public chat sends to the engine for these messages and tools. shows_calls: `renders_tools` of the student's template."""
    made = template_messages(messages, SYSTEM, shows_calls)
    return Conversation(messages=made.messages, tools=[tool_definition(tool) for tool in tools])


def teacher_conversation(messages: Sequence[Json], tools: Sequence[Json]) -> Conversation:
    """The same for a strong model's provider: no system text of ours, and calls as calls."""
    made = template_messages(messages, "", True)
    return Conversation(messages=made.messages, tools=[tool_definition(tool) for tool in tools])


def tool_definition(tool: Json) -> Json:
    """The fields of a tool that vLLM hands to a chat template, and no others; what is missing is null, as there."""
    function = tool["function"]
    known: Json = {name: function.get(name) for name in ("name", "description", "parameters")}
    if function.get("strict") is not None:
        known["strict"] = function["strict"]
    return {"type": "function", "function": known}


def with_parsed_calls(messages: Sequence[Json]) -> list[Json]:
    """Arguments of calls as objects: engines hand them over so to a chat template."""
    return [
        message | {"tool_calls": [_parsed(call) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in messages
    ]


def _parsed(call: Json) -> Json:
    function = call["function"]
    return call | {"function": function | {"arguments": json.loads(function["arguments"])}}


def answered(conversation: Conversation, text: str, shows_calls: bool) -> list[Json]:
    """The conversation's turns and an answer to them, without the system text: a worked example before another question."""
    words, calls = read_answer(text, conversation.names)
    answer: Json = {"role": "assistant", "content": words} | ({"tool_calls": calls} if calls else {})
    turns = conversation.messages[conversation.head :]
    return [*turns, *template_messages([answer], "", shows_calls).messages]


def framed(conversation: Conversation, rules: str, notes: str = "") -> list[Json]:
    """The messages with rules of ours in front of the system text, and notes after the last message where that is the user's, else
    below the system text."""
    turns = conversation.messages[conversation.head :]
    system = [rules, *(message["content"] for message in conversation.messages[: conversation.head])]
    if notes and turns and turns[-1]["role"] == "user":
        turns = [*turns[:-1], turns[-1] | {"content": f"{turns[-1]['content']}\n\n{notes}"}]
    else:
        system.append(notes)
    head = "\n\n".join(filter(None, system))
    return [*([{"role": "system", "content": head}] if head else []), *turns]


def transcript(messages: Sequence[Json], tools: Sequence[Json] = ()) -> str:
    """A conversation as one text, for whoever judges it, compares it with others or writes about it; no student is asked so."""
    turns = template_messages(messages, "", True).messages
    names = {call["id"]: call["function"]["name"] for turn in turns for call in turn.get("tool_calls", ())}
    parts = [f"Tool: {json.dumps(tool_definition(tool)['function'], ensure_ascii=False)}" for tool in tools]
    for turn in turns:
        who = turn["role"].capitalize()
        if turn["role"] == "tool":
            who = f"Result of {_tool_name(turn, names)}"
        parts.append(f"{who}: {answer_text(turn['content'], turn.get('tool_calls', ()))}")
    return "\n\n".join(parts)


def template_messages(given: Sequence[Json], system: str, shows_calls: bool, extra: str = "") -> TemplateMessages:
    """given: messages of a `ChatRequest`. system: the text that stands in front where the request has none; empty: none does.
    shows_calls: the template shows calls and results itself; else they become text. extra: stands at the end of the system text."""
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
        shown = turn if shows_calls else _as_text(turn, names)
        in_words = shown is not turn
        if messages and (in_words or joins) and messages[-1]["role"] == shown["role"] == "user":
            messages[-1] = messages[-1] | {"content": f"{messages[-1]['content']}\n\n{shown['content']}"}
        else:
            messages.append(shown)
            places.append(place)
        joins = in_words and shown["role"] == "user"
    return TemplateMessages(messages, places)


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
        is_object = isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:  # a model may have written anything, and templates want an object
        arguments = json.dumps({"input": arguments})
    function = {"name": call["function"]["name"], "arguments": arguments}
    return {"id": call.get("id") or f"call_{number}", "type": "function", "function": function}


def _as_text(turn: Json, names: dict[str, str]) -> Json:
    """A call or a result as a turn of words, for templates that know neither; any other turn itself."""
    if turn["role"] == "tool":
        return {"role": "user", "content": f"Result of {_tool_name(turn, names)}: {turn['content']}"}
    calls = turn.get("tool_calls")
    return {"role": "assistant", "content": answer_text(turn["content"], calls)} if calls else turn


def _tool_name(turn: Json, names: dict[str, str]) -> str:
    return turn.get("name") or names.get(turn["tool_call_id"]) or "the function"
