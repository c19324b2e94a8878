"""Work for an HTTP client that may close the connection before it gets the answer."""

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Self, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

T = TypeVar("T")


class WhileConnected:
    """A block that is cancelled when the client disconnects, as `asyncio.timeout` cancels one; then the code after it goes on, and
    `left` is true. The body of the request must have been read.

    The block runs in the task that has it: a task of its own would cost turns of the event loop before each first byte.
    """

    def __init__(self, receive: Receive):
        self._receive = receive
        self.left = False

    async def __aenter__(self) -> Self:
        block = asyncio.current_task()
        assert block is not None
        self._block, self._cancelling, self._runs = block, block.cancelling(), True
        self._watcher = asyncio.ensure_future(_disconnected(self._receive))
        self._watcher.add_done_callback(self._on_disconnect)
        return self

    def _on_disconnect(self, watcher: asyncio.Task[None]) -> None:
        if watcher.cancelled():
            return
        watcher.exception()  # a connection that cannot be read any more is a lost one
        if self._runs:
            self.left = True
            self._block.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._runs = False
        self._watcher.cancel()
        if not self.left:
            return False
        others = self._block.uncancel() > self._cancelling  # somebody else has cancelled the task too
        return kind is asyncio.CancelledError and not others


async def until_disconnected(request: Request, work: Awaitable[T]) -> T | None:
    """The result of work, or None when the client disconnects first; work is cancelled then (shield what must go on)."""
    async with WhileConnected(request.receive):
        return await work
    return None


class Stream(StreamingResponse):
    """A StreamingResponse that is sent by the task of the request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with WhileConnected(receive):
            await self.stream_response(send)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
