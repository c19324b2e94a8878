"""Limits of a JSON body, checked before it is parsed. A small body can cost gigabytes and block the event loop: each of millions of
invalid values becomes an error object with place and message."""

import re

from starlette.exceptions import HTTPException

UPLOADS = "/v1/files"  # the only route with long bodies; it has a limit of its own
STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # possessive: no backtracking, so time is linear
ESCAPES = re.compile(
    rb"\\(?:\\|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)  # of backslashes, and whole pairs
NO_NUMBER = re.compile(rb"\b(?:NaN|Infinity)\b")  # Python's parser takes them
HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


class BodyLimit:
    """Pure ASGI middleware: a JSON body that is too long, has too many values or is not valid text is refused.

    limit: bytes; values: texts, numbers, objects and the like, at whatever depth.
    """

    def __init__(self, app, limit: int, values: int):
        self.app = app
        self.limit = limit
        self.values = values

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] == UPLOADS:
            return await self.app(scope, receive, send)
        parts: list[bytes] = []
        received = 0

        async def receive_bounded():
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                parts.append(message.get("body", b""))
                received += len(parts[-1])
                if received > self.limit:
                    raise HTTPException(413, f"the body is longer than {self.limit} bytes")
                if not message.get("more_body"):
                    check(b"".join(parts), self.values)
                    parts.clear()
            return message

        await self.app(scope, receive_bounded, send)


def check(body: bytes, most_values: int) -> None:
    """Raises HTTPException. Takes a small part of the time of parsing, for any body."""
    if _signs(body) > most_values and _has_more(body, most_values):
        raise HTTPException(413, f"the body has more than {most_values} values")
    if HALF_PAIR.search(body) and HALF_PAIR.search(ESCAPES.sub(b"", body)):
        raise HTTPException(
            400, "half of a surrogate pair (\\ud800 to \\udfff) stands alone in the body: that is no text"
        )
    word = NO_NUMBER.search(body) and NO_NUMBER.search(STRING.sub(b'""', body))
    if word:
        raise HTTPException(
            400, f"the body is not JSON: {word[0].decode()} is no number there; leave the field out or send null"
        )
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"the body must be JSON in UTF-8, not compressed: {error.reason}") from error


def _signs(text: bytes) -> int:
    """An upper bound of the number of values: it also counts signs within strings."""
    return sum(text.count(sign) for sign in (b",", b"[", b"{"))


def _has_more(body: bytes, most_values: int) -> bool:
    """The exact check, without signs in strings. An object's member has one or two strings: its name and perhaps its value."""
    texts = body.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"') // 2
    return texts > 2 * most_values or _signs(STRING.sub(b"", body)) > most_values
