"""The engine's bytes as the client gets them: only the name of the model changes. Pure functions on bytes.

The name appears in JSON as `"model":"..."`. Inside a text those quotes are escaped, so a match is always a field and never text
of the model; therefore no chunk has to be parsed.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol

from services.api.engine_errors import error_code, nameless, plain_words
from shared.contracts.errors import FatalError, MeteorError
from shared.contracts.json_types import Json

Rename = Callable[[bytes], bytes]


class EngineFailed(FatalError):
    """The engine reported an error in the middle of a stream."""

    code = "engine_error"


def renaming(engine_name: str, shown: str) -> Rename:
    """Replaces the engine's name for a model. If both names are the same, as for a base, bytes pass unchanged."""
    if engine_name == shown:
        return lambda data: data
    pattern = re.compile(rb'"model":\s*' + re.escape(json.dumps(engine_name).encode()))
    replacement = b'"model":' + json.dumps(shown).encode()
    return lambda data: pattern.sub(lambda _: replacement, data)


async def shown_lines(
    parts: AsyncIterator[bytes], rename: Rename, failed: Callable[[MeteorError], None]
) -> AsyncIterator[bytes]:
    """Complete lines, as soon as they are complete, so that a name is never split. An error of the engine gets OpenAI's shape and is
    passed to `failed`.

    The text is not held back: whether a rationale precedes the answer is known only when the marker appears, but for versions that
    were trained to write one (rationales.py). Requests without `stream` get `reasoning_content`.
    """
    rest = b""
    async for part in parts:
        data = rest + part if rest else part
        end = data.rfind(b"\n") + 1
        rest, lines = data[end:], data[:end]
        if lines:
            yield rename(_with_our_errors(lines, failed) if b'{"error"' in lines else lines)
    if rest:
        yield rename(rest)


def _with_our_errors(lines: bytes, failed: Callable[[MeteorError], None]) -> bytes:
    shown = []
    for line in lines.splitlines(keepends=True):
        error = _error_in(line)
        if error is not None:
            failed(error)
        shown.append(line if error is None else _error_line(error) + b"\n")
    return b"".join(shown)


def _error_in(line: bytes) -> EngineFailed | None:
    """None for a line that is not an error event."""
    if not line.startswith(b"data:"):
        return None
    value = json.loads(line.removeprefix(b"data:"))
    error = value.get("error") if isinstance(value, dict) else None
    if not error:
        return None
    inner = error if isinstance(error, dict) else {"message": str(error)}
    return EngineFailed(
        plain_words(nameless(inner.get("message") or "the engine failed")), code=error_code(inner.get("code"))
    )


def broken(error: MeteorError, named: bool = False) -> bytes:
    """The last event of a broken stream: the status was sent before, so the error travels as data. It starts with a line end,
    since the stream may have broken within a line. named: the stream's events have names."""
    return b"\n\n" + (b"event: error\n" if named else b"") + _error_line(error) + b"\n\n"


def _error_line(error: MeteorError) -> bytes:
    return b"data: " + json.dumps({"error": error.body().model_dump()}).encode()


async def gathered(lines: AsyncIterator[bytes], into: list[str]) -> AsyncIterator[bytes]:
    """The lines as they are; the text of the first choice is added to `into`."""
    async for part in lines:
        for line in part.splitlines():
            for choice in (value_in(line) or {}).get("choices") or []:
                text = (choice.get("delta") or choice).get("content") or choice.get("text")
                if choice.get("index", 0) == 0 and isinstance(text, str):
                    into.append(text)
        yield part


# streams whose chunks are not passed on as they are

Reshape = Callable[[Json], Iterable[Json]]


async def reshaped(lines: AsyncIterator[bytes], reshape: Reshape) -> AsyncIterator[bytes]:
    """lines: complete ones. Each chunk in them as the chunks that it becomes; whatever else there is stays."""
    async for part in lines:
        for line in filter(None, part.splitlines()):
            value = value_in(line)
            for chunk in [] if value is None else [value] if "error" in value else reshape(value):
                yield b"data: " + _compact(chunk) + b"\n\n"
            if value is None:
                yield line + b"\n\n"


class ToEvents(Protocol):
    def begin(self) -> Iterable[Json]: ...
    def __call__(self, chunk: Json) -> Iterable[Json]: ...
    def end(self) -> Iterable[Json]: ...


async def as_events(lines: AsyncIterator[bytes], reshape: Reshape, events: ToEvents) -> AsyncIterator[bytes]:
    """The chunks as events with names; an error ends them."""
    for event in events.begin():
        yield _named(event)
    async for part in lines:
        for line in part.splitlines():
            value = value_in(line)
            if value is not None and "error" in value:
                yield b"event: error\ndata: " + _compact({"type": "error"} | value) + b"\n\n"
                return
            for chunk in [] if value is None else reshape(value):
                for event in events(chunk):
                    yield _named(event)
    for event in events.end():
        yield _named(event)


def value_in(line: bytes) -> Json | None:
    """The JSON object of a data line."""
    data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
    value = json.loads(data) if data.startswith(b"{") else None
    return value if isinstance(value, dict) else None


def _named(event: Json) -> bytes:
    return b"event: " + event["type"].encode() + b"\ndata: " + _compact(event) + b"\n\n"


def _compact(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
