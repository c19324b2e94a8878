"""A chat that is to be stored: its answer gets the id under which it is stored; a streamed answer is assembled from its chunks."""

import json
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field

from fastapi import Request

from services.api.context import ProjectContext
from services.api.features.chat import service as chat
from services.api.features.chat.recorder import Draft, Recorder
from services.api.features.chat.service import Asked
from services.api.features.chat.streams import value_in
from services.api.model_router import Target
from shared.contracts.chat import ChatRequest, GenerationRequest
from shared.contracts.json_types import Json
from shared.jobs.records import CaptureRecord
from shared.platform.log import get_logger

log = get_logger(__name__)
DONE = b"data: [DONE]"
ID = re.compile(rb'"id":\s*("(?:[^"\\\n]|\\.)*")')
TEXTS = ("content", "reasoning_content", "refusal")
Parted = Callable[[Json], Json]  # a streamed message -> as a whole answer has it


class Keeping:
    """parted: makes a streamed message what the message of a whole answer is."""

    def __init__(self, recorder: Recorder, draft: Draft, parted: Parted):
        self._recorder, self._draft, self._parted = recorder, draft, parted

    def whole(self, answer: Json) -> Json:
        """The answer with its id; it is on its way to the store."""
        answer = answer | {"id": self._draft.id}
        self._recorder.keep(self._draft, answer, _size(answer))
        return answer

    async def lines(self, lines: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The stream with the id in its chunks. The chat is stored before the client gets the end, and only if there is one."""
        answer, rename = StreamedAnswer(), _Renaming(self._draft.id)
        try:
            async for part in lines:
                shown = rename(part)
                self._look(shown, answer)
                yield shown
        finally:
            if not answer.kept:
                self._recorder.broken(self._draft)

    def _look(self, shown: bytes, answer: "StreamedAnswer") -> None:
        """Whatever an engine sends, looking at it breaks no stream: what cannot be put together is not stored."""
        if answer.failed or answer.kept:
            return
        try:
            for line in shown.splitlines():
                chunk = value_in(line)
                if chunk is not None:
                    answer.add(chunk)
                elif line.strip() == DONE and answer.is_complete:
                    value = answer.value(self._parted)
                    self._recorder.keep(self._draft, value, _size(value))
                    answer.kept = True
        except Exception as error:
            answer.failed = True
            log.warning("a streamed chat cannot be put together", error=repr(error))


def kept_chat(
    request: Request,
    context: ProjectContext,
    body: GenerationRequest,
    kept: bool,
    target: Target,
    made: Asked,
    capture: CaptureRecord | None,
) -> Keeping | None:
    """None: the chat is not to be stored. What the request says of it is named as ignored then, but for `store: false`. kept: chats of
    this route can be stored."""
    if not isinstance(body, ChatRequest):
        return None
    wanted = body.store
    if wanted is None:
        wanted = capture is not None and 100 * random.random() < capture.percent  # noqa: S311
    settings = context.settings
    if not (wanted and kept and settings.store_chats):
        given = {"store": body.store, "metadata": body.metadata}
        made.notes.ignored.extend(name for name, value in given.items() if value)
        made.notes.ignored.sort()
        return None
    mask = settings.store_mask or (capture is not None and capture.mask)
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdecimal() else 0
    draft = Draft(context.project, target, body, getattr(request.state, "request_id", ""), mask, size)
    return Keeping(request.app.state.chat_recorder, draft, lambda message: chat.parted(made, message))


def _size(answer: Json) -> int:
    return len(json.dumps(answer))


class _Renaming:
    """Replaces the engine's id of the chat, which begins its first chunk. A match is always a field: inside a text its quotes are
    escaped."""

    def __init__(self, shown: str):
        self._shown = b'"id":' + json.dumps(shown).encode()
        self._pattern: re.Pattern[bytes] | None = None

    def __call__(self, part: bytes) -> bytes:
        if self._pattern is None:
            first = ID.search(part)
            if first is None:
                return part
            self._pattern = re.compile(rb'"id":\s*' + re.escape(first[1]))
        return self._pattern.sub(lambda _: self._shown, part)


@dataclass
class StreamedAnswer:
    """Chunks of a chat, put together to the answer that they are parts of. head: the fields beside the choices, of the last chunk
    that has them. calls: of each choice, by their numbers. failed: an error came. kept: it is on its way to the store."""

    head: Json = field(default_factory=dict)
    choices: dict[int, Json] = field(default_factory=dict)
    calls: dict[int, dict[int, Json]] = field(default_factory=dict)
    failed: bool = False
    kept: bool = False

    def add(self, chunk: Json) -> None:
        if "error" in chunk:
            self.failed = True
            return
        self.head |= {name: part for name, part in chunk.items() if name != "choices" and part is not None}
        for part in chunk.get("choices") or []:
            index = part.get("index", 0)
            choice = self.choices.setdefault(index, {"index": index, "message": {"role": "assistant", "content": None}})
            delta = part.get("delta") or {}
            _add_texts(choice["message"], delta)
            for call in delta.get("tool_calls") or []:
                _add_call(self.calls.setdefault(index, {}), call)
            logprobs = (part.get("logprobs") or {}).get("content")
            if logprobs:
                choice.setdefault("logprobs", {"content": []})["content"] += logprobs
            if part.get("finish_reason"):
                choice["finish_reason"] = part["finish_reason"]

    @property
    def is_complete(self) -> bool:
        ended = all("finish_reason" in choice for choice in self.choices.values())
        return bool(self.choices) and ended and not self.failed

    def value(self, parted: Parted) -> Json:
        choices: list[Json] = [{"logprobs": None, **self.choices[index]} for index in sorted(self.choices)]
        for choice in choices:
            message, calls = choice["message"], self.calls.get(choice["index"])
            if calls:
                message["tool_calls"] = [calls[number] for number in sorted(calls)]
            elif "reasoning_content" not in message:
                choice["message"] = parted(message)
        return self.head | {"object": "chat.completion", "choices": choices}


def _add_texts(message: Json, delta: Json) -> None:
    for name in TEXTS:
        if delta.get(name):
            message[name] = (message.get(name) or "") + delta[name]
    if delta.get("function_call"):
        _add_function(message.setdefault("function_call", {"name": "", "arguments": ""}), delta["function_call"])


def _add_call(calls: dict[int, Json], part: Json) -> None:
    empty: Json = {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
    call = calls.setdefault(part.get("index") or 0, empty)
    call["id"] = part.get("id") or call["id"]
    _add_function(call["function"], part.get("function") or {})


def _add_function(function: Json, part: Json) -> None:
    function["name"] += part.get("name") or ""
    function["arguments"] += part.get("arguments") or ""
