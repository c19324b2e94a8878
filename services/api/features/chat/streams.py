"""The engine's bytes as we pass them on: only the name of the model is another. Pure functions on bytes.

A name stands in JSON as `"model":"..."`. Inside a text those quotes would be escaped, so what matches is a field and nothing
that a model wrote; therefore no chunk has to be parsed.
"""

import json
import re
from collections.abc import AsyncIterator, Callable

from services.api.engine_client import error_code, nameless
from shared.contracts.errors import FatalError, MeteorError

Rename = Callable[[bytes], bytes]


class EngineFailed(FatalError):
    """The engine said in mid-stream that it cannot go on."""

    code = "engine_error"


def renaming(engine_name: str, shown: str) -> Rename:
    """Replaces the engine's name for a model. Where both are the same, as with a base, bytes stay what they are."""
    if engine_name == shown:
        return lambda data: data
    pattern = re.compile(rb'"model":\s*' + re.escape(json.dumps(engine_name).encode()))
    replacement = b'"model":' + json.dumps(shown).encode()
    return lambda data: pattern.sub(lambda _: replacement, data)


async def shown_lines(
    parts: AsyncIterator[bytes], rename: Rename, failed: Callable[[MeteorError], None]
) -> AsyncIterator[bytes]:
    """Whole lines, as soon as they are whole, so that a name is never cut in two. The engine's own error in mid-stream gets
    OpenAI's shape, and `failed` is told.

    The text goes out as it comes: whether a rationale precedes the answer is known only when the marker appears, and
    holding the text back until then would be no stream. Ask without `stream` for `reasoning_content`.
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
    """None for a line that is no error event."""
    if not line.startswith(b"data:"):
        return None
    value = json.loads(line.removeprefix(b"data:"))
    error = value.get("error") if isinstance(value, dict) else None
    if not error:
        return None
    inner = error if isinstance(error, dict) else {"message": str(error)}
    return EngineFailed(nameless(inner.get("message") or "the engine failed"), code=error_code(inner.get("code")))


def broken(error: MeteorError) -> bytes:
    """The last event of a stream that broke: the status is long sent, so the error travels as data. It begins with a line's
    end, as what broke may have been a line."""
    return b"\n\n" + _error_line(error) + b"\n\n"


def _error_line(error: MeteorError) -> bytes:
    return b"data: " + json.dumps({"error": error.body().model_dump()}).encode()
