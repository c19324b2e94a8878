"""A completion put together from the chunks of a stream, and turned into chunks again. No I/O."""

import json
import time
from collections.abc import Iterator

from services.strong_model.gateway.errors import bad_answer, broken_stream, not_json
from services.strong_model.gateway.providers import Provider
from shared.contracts.json_types import Json

TEXTS = ("content", "refusal", "reasoning_content", "reasoning")  # parts of a delta that grow by appending


class Assembly:
    """A completion put together from its chunks. whole: nothing was met that this class cannot put together."""

    def __init__(self, provider: Provider):
        self.provider = provider
        self.whole = True
        self._head: Json = {}
        self._choices: dict[int, Json] = {}
        self._usage: Json | None = None

    def add(self, data: str) -> Json:
        """One `data:` line; returns it parsed. Raises TeacherFailure for errors sent in mid-stream and for garbage."""
        try:
            chunk = json.loads(data)
        except ValueError:
            raise not_json(self.provider, data.encode()) from None
        if not isinstance(chunk, dict) or "error" in chunk:
            raise broken_stream(self.provider, data)
        self._head = self._head or {name: chunk.get(name) for name in ("id", "created", "model")}
        self._usage = chunk.get("usage") or self._usage
        for part in chunk.get("choices") or []:
            self._add_choice(part)
        return chunk

    def _add_choice(self, part: Json) -> None:
        index = part.get("index", 0)
        choice = self._choices.setdefault(
            index, {"index": index, "message": {"role": "assistant", "content": ""}, "finish_reason": None}
        )
        message = choice["message"]
        for name, value in (part.get("delta") or {}).items():
            if name in TEXTS and isinstance(value, str):
                message[name] = (message.get(name) or "") + value
            elif name != "role" and value:
                self.whole = False
        choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]

    def finish(self) -> Json:
        """The completion. Raises TeacherFailure `teacher_bad_answer` when the stream broke off."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        if not choices or not all(choice["finish_reason"] for choice in choices):
            raise bad_answer(self.provider, "a stream that broke off before its end")
        return {"object": "chat.completion", **self._head, "choices": choices, "usage": self._usage}


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
