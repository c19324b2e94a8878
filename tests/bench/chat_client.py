"""The client side of `tests.bench.chat`, in a process of its own: many streams at once, as cheaply as Python can.

One JSON object on stdin: {url, model, key, streams, tokens, spread_s, more}; the streams begin over spread_s seconds, and `more`
is added to each body. One on stdout: when each stream had its first chunk after it was
asked for, how long each stamped chunk was under way (both in milliseconds), chunks in all, and seconds from first to last.
"""

import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

STAMP = re.compile(rb'"content":"@(\d+)@"')
EVENT = b"data: {"
TAIL = 64  # bytes that may be the beginning of a stamp whose end has not come yet


@dataclass
class Seen:
    first_ms: list[float] = field(default_factory=list)
    under_way_ms: list[float] = field(default_factory=list)
    chunks: int = 0
    seconds: float = 0.0


def request(given: dict) -> bytes:
    body = {
        "model": given["model"],
        "messages": [{"role": "user", "content": "Count, and do not stop."}],
        "stream": True,
        "max_tokens": given["tokens"],
    } | given.get("more", {})
    content = json.dumps(body).encode()
    at = urlsplit(given["url"])
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {at.netloc}\r\nauthorization: Bearer {given['key']}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + content


async def one(given: dict, sent: bytes, seen: Seen, wait_s: float) -> None:
    """One stream from its connection to its end. Raises when it was refused or broke."""
    await asyncio.sleep(wait_s)
    at = urlsplit(given["url"])
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    asked = time.monotonic_ns()
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError((head + await reader.read(2000)).decode(errors="replace"))
    rest, chunks = b"", 0
    while data := await reader.read(65_536):
        now = time.monotonic_ns()
        came = data.count(EVENT)
        if came and not chunks:
            seen.first_ms.append((now - asked) / 1e6)
        chunks += came
        rest += data
        read = 0
        for stamp in STAMP.finditer(rest):
            seen.under_way_ms.append((now - int(stamp[1])) / 1e6)
            read = stamp.end()
        rest = rest[max(read, len(rest) - TAIL) :]
    writer.close()
    if b"[DONE]" not in rest:
        raise RuntimeError(f"a stream broke off: {rest!r}")
    seen.chunks += chunks


async def measure(given: dict) -> Seen:
    seen, sent = Seen(), request(given)
    began = time.monotonic()
    step = given.get("spread_s", 0.0) / given["streams"]
    await asyncio.gather(*(one(given, sent, seen, step * number) for number in range(given["streams"])))
    seen.seconds = time.monotonic() - began
    return seen


if __name__ == "__main__":
    print(json.dumps(vars(asyncio.run(measure(json.load(sys.stdin))))))
