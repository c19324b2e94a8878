"""A completion put together from the chunks of a stream, and turned into chunks again. No I/O."""

import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from services.strong_model.gateway.completions import checked
from services.strong_model.gateway.errors import bad_answer, broken_stream, in_answer, not_json
from services.strong_model.gateway.normalise import REASONING, live_reason, read_parts, says_error
from services.strong_model.gateway.providers import Provider
from shared.contracts.json_types import Json

OF_CHUNK = (
    "choices",
    "usage",
    "object",
)  # of a chunk, put together by themselves; its other fields are the completion's
SIGNS_OF_LIFE = frozenset(("ping", "heartbeat", "keepalive", "keep-alive"))  # names of events that say nothing else
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


OPENERS = {  # of reasoning at the beginning of a text -> what ends it
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "[THINK]": "[/THINK]",
    "<|channel>thought": "<channel|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",
}


class LiveText:
    """Text and reasoning of one choice, told apart while they arrive. What may be the beginning of a mark is held back."""

    def __init__(self) -> None:
        self._held = ""
        self._closer: str | None = None  # while it reasons
        self._text = False  # the text has begun

    def feed(self, piece: str, last: bool = False) -> tuple[str, str]:
        """(text, reasoning) that are certain now."""
        self._held += piece
        thoughts = ""
        if not self._text and self._closer is None and not self._begins(last):
            return "", ""
        if self._closer is not None:
            thought, closer, rest = self._held.partition(self._closer)
            if not closer:
                kept = 0 if last else len(self._closer) - 1
                cut = max(len(self._held) - kept, 0)
                self._held, thoughts = self._held[cut:], self._held[:cut]
                return "", thoughts
            thoughts, self._held, self._closer = thought, rest.lstrip(), None
            self._text = bool(self._held)
        text, self._held = self._held, ""
        return text, thoughts

    def _begins(self, last: bool) -> bool:
        """Whether it is known by what the text begins."""
        start = self._held.lstrip()
        for opener, closer in OPENERS.items():
            if start.startswith(opener):
                self._held, self._closer = start[len(opener) :], closer
                return True
        self._text = last or not any(opener.startswith(start) for opener in OPENERS)
        return self._text


class Live:
    """Chunks as a client gets them: in OpenAI's form, reasoning in `reasoning_content`."""

    def __init__(self) -> None:
        self._choices: dict[Any, LiveText] = {}

    def chunk(self, chunk: Json) -> Json:
        choices = chunk.get("choices")
        return chunk | {"choices": [self._choice(part) for part in choices or [] if isinstance(part, dict)]}

    def _choice(self, part: Json) -> Json:
        delta = part.get("delta") if isinstance(part.get("delta"), dict) else {}
        reason = part.get("finish_reason")
        content, thoughts = read_parts(delta or {})
        text, inside = self._choices.setdefault(part.get("index"), LiveText()).feed(content, bool(reason))
        clean = {name: value for name, value in (delta or {}).items() if name not in (*REASONING, "content")}
        if "content" in (delta or {}) or text:
            clean["content"] = text
        if thoughts + inside:
            clean["reasoning_content"] = thoughts + inside
        return part | {"delta": clean, "finish_reason": reason and live_reason(reason)}


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
        self._live = Live()

    def add(self, event: Event) -> Json | None:
        """One event; returns its chunk for a client. Raises ProviderError for an error that the provider sends, and for garbage."""
        if not event.data or event.name in SIGNS_OF_LIFE:
            return None
        try:
            chunk = json.loads(event.data)
        except (ValueError, RecursionError):
            raise not_json(self.provider, event.data.encode()) from None
        if isinstance(chunk, list) and len(chunk) == 1:
            chunk = chunk[0]
        if not isinstance(chunk, dict) or says_error(chunk) or event.name == "error":
            raise broken_stream(self.provider, event.data) if self._written else in_answer(self.provider, chunk)
        self._head |= {name: value for name, value in chunk.items() if name not in OF_CHUNK and value is not None}
        self._usage = chunk.get("usage") or self._usage
        choices = chunk.get("choices")
        for part in choices if isinstance(choices, list) else []:
            if isinstance(part, dict):
                self._add_choice(part)
        return self._live.chunk(chunk)

    @property
    def _written(self) -> bool:
        """Whether a part of an answer has come, not only its head."""
        return any(len(choice["message"]) > 2 or choice["message"]["content"] for choice in self._choices.values())

    def _add_choice(self, part: Json) -> None:
        given = part.get("index")
        index = given if isinstance(given, int) else 0
        choice = self._choices.setdefault(
            index, {"index": index, "message": {"role": "assistant", "content": ""}, "finish_reason": None}
        )
        delta = part.get("delta")  # some send the whole message so far beside it
        if delta is None:
            delta = part.get("message") or ({"content": part["text"]} if part.get("text") else {})
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
