"""Server-sent events: the response, its headers, and how the OpenAPI document describes it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from starlette.types import Send

from shared.platform.disconnect import Stream
from shared.platform.log import get_logger

log = get_logger(__name__)
STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
EVENT_STREAM = "text/event-stream"
EVENT = {  # of a stream; `schema` speaks of each event
    "type": "object",
    "required": ["data"],
    "properties": {"id": {"type": "string"}, "event": {"type": "string"}, "data": {"type": "string"}},
}
STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {EVENT_STREAM: {"schema": EVENT}}}}


class EventResponse(Stream):
    """Ends when its reader has read nothing for `stall_s`; the reader can continue with `Last-Event-ID`."""

    media_type = EVENT_STREAM

    def __init__(self, chunks: AsyncGenerator[bytes, None], stall_s: float):
        super().__init__(chunks, headers=STREAM_HEADERS)
        self.chunks = chunks
        self.stall_s = stall_s

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with contextlib.aclosing(self.chunks):
            try:
                async for chunk in self.chunks:
                    async with asyncio.timeout(self.stall_s):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except TimeoutError:
                log.warning("event stream ended, its reader is stalled")
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
