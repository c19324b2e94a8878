"""/v1/responses as a form of the chat: its request becomes a chat's, and the chat's answer or chunks become its objects and events.

So both routes have one prompt, one set of defaults and the same tools, whatever routes the engine has.
"""

import time
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import ValidationError

from shared.contracts.chat import ChatRequest, ResponsesRequest
from shared.contracts.conversation import text_of
from shared.contracts.errors import UserError
from shared.contracts.json_types import Json

SAME = (
    "model", "stream", "user", "safety_identifier", "temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias",
    "seed", "stop", "top_k", "min_p", "repetition_penalty", "stop_token_ids", "ignore_eos", "skip_special_tokens",
    "include_stop_str_in_output", "parallel_tool_calls",
)  # fmt: skip
LOGPROBS = "message.output_text.logprobs"
NAMES = {  # chat's field -> ours
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
}
READ = {"text": ("format", "verbosity"), "reasoning": ("effort",), "stream_options": ("include_usage",)}
PASSED = ("verbosity", "store", "service_tier", "prompt_cache_key")


class Translated(NamedTuple):
    """chat: the same as a chat. places: of its messages in the request's input; None for one that is not from there."""

    chat: ChatRequest
    places: list[int | None]


def as_chat(request: ResponsesRequest) -> Translated:
    """Raises UserError for an item or a tool that has no place in a chat."""
    given = request.sent
    body = {name: given[name] for name in SAME if name in given} | request.stray
    messages, places = _messages(request)
    body |= {"messages": messages}
    if "max_output_tokens" in given:
        body["max_completion_tokens"] = given["max_output_tokens"]
    if given.get("tools"):
        body["tools"] = [_tool(tool, place) for place, tool in enumerate(given["tools"])]
    if "tool_choice" in given:
        body["tool_choice"] = _choice(given["tool_choice"])
    if given.get("truncation") == "auto":
        body["truncate_prompt_tokens"] = -1
    if LOGPROBS in given.get("include", ()):
        body |= {"logprobs": True, "top_logprobs": given.get("top_logprobs", 0)}
    text = given.get("text") or {}
    form = text.get("format") or {}
    if form.get("type") == "json_schema":
        body["response_format"] = {"type": "json_schema", "json_schema": {k: v for k, v in form.items() if k != "type"}}
    elif form:
        body["response_format"] = form
    if text.get("verbosity"):
        body["verbosity"] = text["verbosity"]
    if (given.get("reasoning") or {}).get("effort"):
        body["reasoning_effort"] = given["reasoning"]["effort"]
    body |= _unread(given)
    if given.get("stream"):
        body["stream_options"] = {"include_usage": True}
    try:
        return Translated(ChatRequest.model_validate(body), places)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(first["msg"], param=where.replace("messages", "input", 1), code="invalid_value") from error


def _unread(given: Json) -> Json:
    """The parts of the request's objects that nothing here reads, by their dotted names, so that they are named as ignored."""
    parts = {
        f"{name}.{part}": value
        for name, read in READ.items()
        for part, value in (given.get(name) or {}).items()
        if part not in read and value is not None
    }
    return parts | {f"include.{name}": True for name in given.get("include", ()) if name != LOGPROBS}


def _messages(request: ResponsesRequest) -> tuple[list[Json], list[int | None]]:
    messages: list[Json] = []
    places: list[int | None] = []
    if request.instructions:
        messages.append({"role": "system", "content": request.instructions})
        places.append(None)
    if isinstance(request.input, str):
        return [*messages, {"role": "user", "content": request.input}], [*places, 0]
    for place, item in enumerate(request.input):
        message = _message(item, place)
        if message is None:
            continue
        last = messages[-1] if messages else {}
        if message.get("tool_calls") and last.get("role") == "assistant":
            messages[-1] = last | {"tool_calls": [*last.get("tool_calls", []), *message["tool_calls"]]}
        else:
            messages.append(message)
            places.append(place)
    return messages, places


def _message(item: Json, place: int) -> Json | None:
    """An item as a message; None for a thought, which is not told again."""
    match item.get("type", "message"):
        case "message":
            return {"role": item.get("role"), "content": text_of(item.get("content"))}
        case "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        case "function_call_output":
            output = item.get("output")
            return {"role": "tool", "tool_call_id": item.get("call_id"), "content": text_of(output)}
        case "reasoning":
            return None
    raise UserError(
        f"input.{place}: items of type {item.get('type')!r} are not supported; messages, function_call and "
        "function_call_output are",
        param=f"input.{place}.type",
        code="unsupported_parameter",
    )


def _tool(tool: Json, place: int) -> Json:
    if tool["type"] != "function":
        raise UserError(
            f"tools of type {tool['type']!r} run on the provider's side, and there are none here; offer a function",
            param=f"tools.{place}.type",
            code="unsupported_parameter",
        )
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type" and v is not None}}


def _choice(choice: Any) -> Any:
    """Flat here, nested in a chat."""
    if not isinstance(choice, dict) or choice.get("type") != "function" or "function" in choice:
        return choice
    return {"type": "function", "function": {"name": choice.get("name")}}


# answers


def new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"


def response(request: ResponsesRequest, model: str, **values: Any) -> Json:
    """The object with what the request said; values: status, output, usage."""
    given = request.sent
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": given.get("max_output_tokens"),
        "metadata": given.get("metadata") or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": given.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None} | (given.get("reasoning") or {}),
        "store": False,
        "temperature": given.get("temperature"),
        "text": {"format": {"type": "text"}} | (given.get("text") or {}),
        "tool_choice": given.get("tool_choice", "auto"),
        "tools": given.get("tools", []),
        "top_logprobs": given.get("top_logprobs", 0),
        "top_p": given.get("top_p"),
        "truncation": given.get("truncation", "disabled"),
        "usage": None,
        "user": request.user,
    } | values


def whole(request: ResponsesRequest, chat: Json) -> Json:
    """A chat's whole answer as a response."""
    choice = chat["choices"][0]
    message, output = choice["message"], []
    if message.get("reasoning_content"):
        output.append(_thought_item(new_id("rs"), message["reasoning_content"]))
    if message.get("content") or not message.get("tool_calls"):
        logprobs = (choice.get("logprobs") or {}).get("content") or []
        output.append(_text_item(new_id("msg"), message.get("content") or "", logprobs))
    output += [_call_item(new_id("fc"), call) for call in message.get("tool_calls") or []]
    return response(request, chat["model"], output=output, usage=_usage(chat.get("usage")), **_ended(choice))


def _ended(choice: Json) -> Json:
    if choice.get("finish_reason") == "length":
        return {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    return {"status": "completed"}


def _text_part(text: str, logprobs: list[Json]) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _thought_item(item_id: str, text: str) -> Json:
    thought = {"type": "reasoning_text", "text": text}
    return {"id": item_id, "type": "reasoning", "summary": [], "content": [thought]}


def _text_item(item_id: str, text: str, logprobs: list[Json]) -> Json:
    content = [_text_part(text, logprobs)]
    return {"id": item_id, "type": "message", "status": "completed", "role": "assistant", "content": content}


def _call_item(item_id: str, call: Json) -> Json:
    function = call["function"]
    kept = {"name": function["name"], "arguments": function["arguments"], "call_id": call["id"]}
    return {"id": item_id, "type": "function_call", "status": "completed", **kept}


def _usage(usage: Json | None) -> Json | None:
    if usage is None:
        return None
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return {
        "input_tokens": usage.get("prompt_tokens", 0),
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": usage.get("completion_tokens", 0),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.get("total_tokens", 0),
    }


class Events:
    """A chat's chunks as the events of a response: call it with each chunk, then `end`. Each event has its number."""

    def __init__(self, request: ResponsesRequest, model: str):
        self.request = request
        self.head = response(request, model)
        self.number = 0
        self.output: list[Json] = []  # the finished items
        self.item: Json | None = None  # the one that is being written
        self.usage: Json | None = None
        self.last: Json = {}

    def begin(self) -> Iterator[Json]:
        for kind in ("response.created", "response.in_progress"):
            yield self._event(kind, response=self.head)

    def __call__(self, chunk: Json) -> Iterator[Json]:
        self.usage = _usage(chunk.get("usage")) or self.usage
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            if delta.get("reasoning_content"):
                yield from self._thought(delta["reasoning_content"])
            if delta.get("content"):
                yield from self._text(delta["content"], (choice.get("logprobs") or {}).get("content") or [])
            for call in delta.get("tool_calls") or []:
                yield from self._call(call)
            if choice.get("finish_reason"):
                self.last = choice

    def end(self) -> Iterator[Json]:
        if self.item is None and not self.output:
            yield from self._open(_text_item(new_id("msg"), "", []))
        yield from self._close()
        ended = self.head | {"output": self.output, "usage": self.usage} | _ended(self.last)
        yield self._event(f"response.{ended['status']}", response=ended)

    def _thought(self, text: str) -> Iterator[Json]:
        if self.item is None or self.item["type"] != "reasoning":
            yield from self._close()
            yield from self._open(_thought_item(new_id("rs"), ""))
        if self.item is not None:
            self.item["content"][0]["text"] += text
        yield self._event("response.reasoning_text.delta", delta=text, content_index=0, **self._place())

    def _text(self, text: str, logprobs: list[Json]) -> Iterator[Json]:
        if self.item is None or self.item["type"] != "message":
            yield from self._close()
            yield from self._open(_text_item(new_id("msg"), "", []))
        part = self.item["content"][0] if self.item else {}
        part["text"] += text
        part["logprobs"] += logprobs
        yield self._event("response.output_text.delta", delta=text, logprobs=logprobs, content_index=0, **self._place())

    def _call(self, call: Json) -> Iterator[Json]:
        function = call.get("function") or {}
        if call.get("id"):
            yield from self._close()
            begun = {"id": call["id"], "function": {"name": function.get("name") or "", "arguments": ""}}
            yield from self._open(_call_item(new_id("fc"), begun))
        if function.get("arguments") and self.item is not None:
            self.item["arguments"] += function["arguments"]
            yield self._event("response.function_call_arguments.delta", delta=function["arguments"], **self._place())

    def _open(self, item: Json) -> Iterator[Json]:
        self.item = item
        begun = item | {"status": "in_progress"} | ({"content": []} if item["type"] != "function_call" else {})
        yield self._event("response.output_item.added", output_index=len(self.output), item=begun)
        if item["type"] == "message":
            part = _text_part("", [])
            yield self._event("response.content_part.added", part=part, content_index=0, **self._place())

    def _close(self) -> Iterator[Json]:
        """The item that is being written is complete."""
        item, place = self.item, self._place()
        if item is None:
            return
        if item["type"] == "message":
            part = item["content"][0]
            done = {"text": part["text"], "logprobs": part["logprobs"]}
            yield self._event("response.output_text.done", content_index=0, **done, **place)
            yield self._event("response.content_part.done", part=part, content_index=0, **place)
        elif item["type"] == "reasoning":
            text = item["content"][0]["text"]
            yield self._event("response.reasoning_text.done", text=text, content_index=0, **place)
        else:
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield self._event("response.function_call_arguments.done", **done, **place)
        yield self._event("response.output_item.done", output_index=len(self.output), item=item)
        self.output.append(item)
        self.item = None

    def _place(self) -> Json:
        return {"item_id": self.item["id"] if self.item else "", "output_index": len(self.output)}

    def _event(self, kind: str, **values: Any) -> Json:
        self.number += 1
        return {"type": kind, "sequence_number": self.number - 1, **values}
