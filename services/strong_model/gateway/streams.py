"""A completion put together from the chunks of a stream, and turned into chunks again. No I/O."""

import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from services.strong_model.gateway.completions import checked
from services.strong_model.gateway.errors import bad_answer, broken_stream, in_answer, not_json
from services.strong_model.gateway.providers import Provider
from shared.contracts.json_types import Json

OF_CHUNK = (
    "choices",
    "usage",
    "object",
)  # of a chunk, put together by themselves; its other fields are the completion's
OF_CALL = ("id", "type")  # of a tool call: said once


class Event(NamedTuple):
    """One server-sent event. name: "message" unless the server gives another."""

    name: str
    data: str


class EventReader:
    """Server-sent events from pieces of bytes. Comments, which keep a connection alive, are passed over."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = "message"
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[Event]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            yield from self._line(line.rstrip(b"\r").decode(errors="replace"))

    def _line(self, line: str) -> Iterator[Event]:
        field, _, value = line.partition(":")
        if field == "event":
            self._name = value.strip()
        elif field == "data":
            data = value.strip()
            if self._data and _is_whole(self._data):  # no blank line between two events
                yield self._ended()
            self._data.append(data)
        elif not line and self._data:
            yield self._ended()

    def _ended(self) -> Event:
        event = Event(self._name, "\n".join(self._data))
        self._name, self._data = "message", []
        return event


def _is_whole(data: list[str]) -> bool:
    text = "\n".join(data)
    if text == "[DONE]":
        return True
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


class Assembly:
    """A completion put together from its chunks. whole: nothing was met that this class cannot put together.

    ended: the provider said that nothing follows.
    """

    def __init__(self, provider: Provider):
        self.provider = provider
        self.whole = True
        self.ended = False
        self._head: Json = {}
        self._choices: dict[int, Json] = {}
        self._usage: Any = None

    def add(self, event: Event) -> Json | None:
        """One event; returns its chunk. Raises ProviderError for an error that the provider sends, and for garbage."""
        try:
            chunk = json.loads(event.data)
        except (ValueError, RecursionError):
            raise not_json(self.provider, event.data.encode()) from None
        if isinstance(chunk, list) and len(chunk) == 1:
            chunk = chunk[0]
        if not isinstance(chunk, dict) or chunk.get("error") or event.name == "error":
            raise broken_stream(self.provider, event.data) if self._choices else in_answer(self.provider, chunk)
        self._head |= {name: value for name, value in chunk.items() if name not in OF_CHUNK and value is not None}
        self._usage = chunk.get("usage") or self._usage
        choices = chunk.get("choices")
        for part in choices if isinstance(choices, list) else []:
            if isinstance(part, dict):
                self._add_choice(part)
        return chunk

    def _add_choice(self, part: Json) -> None:
        given = part.get("index")
        index = given if isinstance(given, int) else 0
        choice = self._choices.setdefault(
            index, {"index": index, "message": {"role": "assistant", "content": ""}, "finish_reason": None}
        )
        delta = part.get("delta") or part.get("message") or ({"content": part["text"]} if part.get("text") else {})
        for name, value in delta.items() if isinstance(delta, dict) else ():
            if name != "role" and value:
                self._add_part(choice["message"], name, value)
        for name, value in part.items():
            if name == "logprobs" and isinstance(value, dict):
                _extend_lists(choice.setdefault("logprobs", {}), value)
            elif name not in ("index", "delta", "message", "text") and value is not None:
                choice[name] = value

    def _add_part(self, message: Json, name: str, value: Any) -> None:
        so_far = message.get(name)
        if name == "tool_calls" and isinstance(value, list):
            message[name] = so_far or []
            for part in value:
                _add_call(message[name], part)
        elif isinstance(value, str) and (so_far is None or isinstance(so_far, str)):
            message[name] = (so_far or "") + value
        elif isinstance(value, list) and (not so_far or isinstance(so_far, list)):
            message[name] = [*(so_far or []), *value]
        elif name == "content":  # text and parts of text in one answer
            message[name] = [*_as_parts(so_far), *_as_parts(value)]
        else:
            message[name] = value
            self.whole = False

    def finish(self) -> Json:
        """The completion, checked. Raises ProviderError, `teacher_bad_answer` when the stream broke off."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        if not choices and not self.ended:
            raise bad_answer(self.provider, "a stream that broke off before its end")
        if not self.ended and not all(choice["finish_reason"] for choice in choices):
            raise bad_answer(self.provider, "a stream that broke off before its end")
        answer: Json = {"object": "chat.completion", **self._head, "choices": choices or None, "usage": self._usage}
        return checked(self.provider, answer)


def _as_parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []


def _add_call(calls: list[Json], part: Any) -> None:
    """A piece of a tool call: its arguments grow by appending."""
    if not isinstance(part, dict):
        return
    place = part.get("index", len(calls) if part.get("id") else max(len(calls) - 1, 0))
    while len(calls) <= place:
        calls.append({"type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[place], part.get("function") or {}
    call |= {name: part[name] for name in OF_CALL if part.get(name)}
    for name in ("name", "arguments"):
        call["function"][name] += function.get(name) or ""


def _extend_lists(so_far: Json, more: Json) -> None:
    for name, value in more.items():
        so_far[name] = [*(so_far.get(name) or []), *value] if isinstance(value, list) else value


def chunks_of(body: Json, include_usage: bool) -> Iterator[Json]:
    """A whole completion as the chunks of a stream: texts, reasons to finish, and the usage if it was asked for."""
    head = {
        "id": body.get("id") or "chatcmpl-kept",
        "object": "chat.completion.chunk",
        "created": body.get("created") or int(time.time()),
        "model": body.get("model"),
    }
    for choice in body["choices"]:
        index = choice.get("index", 0)
        yield head | {"choices": [{"index": index, "delta": choice["message"], "finish_reason": None}]}
        yield head | {"choices": [{"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}]}
    if include_usage and body.get("usage"):
        yield head | {"choices": [], "usage": body["usage"]}
