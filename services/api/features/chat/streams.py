"""The engine's bytes as the client gets them: only the name of the model changes. Pure functions on bytes.

The name appears in JSON as `"model":"..."`. Inside a text those quotes are escaped, so a match is always a field and never text
of the model; therefore no chunk has to be parsed.
"""

import json
import re
from collections.abc import AsyncIterator, Callable

from services.api.engine_client import error_code, nameless
from shared.contracts.errors import FatalError, MeteorError

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

    The text is not held back: whether a rationale precedes the answer is known only when the marker appears. Requests without
    `stream` get `reasoning_content`.
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
    return EngineFailed(nameless(inner.get("message") or "the engine failed"), code=error_code(inner.get("code")))


def broken(error: MeteorError) -> bytes:
    """The last event of a broken stream: the status was sent before, so the error travels as data. It starts with a line end,
    since the stream may have broken within a line."""
    return b"\n\n" + _error_line(error) + b"\n\n"


def _error_line(error: MeteorError) -> bytes:
    return b"data: " + json.dumps({"error": error.body().model_dump()}).encode()
