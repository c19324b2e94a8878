"""Slow-client protection. uvicorn waits forever for a request that a client does not complete, and each holds a descriptor.

Headers have a deadline from their first byte, which later bytes do not extend. A connection with incomplete headers counts as half
open; beyond a limit the oldest of them are closed. A body has no deadline, but a longest silence. Of the connections that wait for
their next request the oldest are closed beyond a limit, too.
"""

import json
import resource
from asyncio import TimerHandle, Transport

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from shared.contracts.errors import ErrorBody

HEADER_BYTES = 64 * 1024  # of one request; httptools itself sets no limit
FEW_DESCRIPTORS = 8192  # most that the process asks for; more would only cost memory


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection with deadlines; `bounded` sets them."""

    header_s = 10.0
    body_s = 60.0
    most_half_open = 512
    read_at_once = 256 * 1024  # what the event loop may hand over in one piece: headers with the begin of a body
    half_open: dict["BoundedConnection", None]  # in the order in which they became so
    most_idle = 256
    idle: dict["BoundedConnection", None]  # likewise

    def connection_made(self, transport: Transport) -> None:
        super().connection_made(transport)
        self._header_bytes = 0
        self._timer: TimerHandle | None = None
        self._begin_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_wait()
        self.idle.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self in self.half_open:
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES + self.read_at_once:
                return self.send_400_response(f"the headers are longer than {HEADER_BYTES} bytes")
        elif self._timer is not None:  # a body that goes on
            self._wait_for_body()
        super().data_received(data)

    def on_message_begin(self) -> None:
        if self not in self.half_open:  # a further request on the same connection
            self._begin_headers()
        self.idle.pop(self, None)
        super().on_message_begin()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None and not self.transport.is_closing():
            self.idle[self] = None
            if len(self.idle) > self.most_idle:
                oldest = next(iter(self.idle))
                self.idle.pop(oldest)
                oldest.transport.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers (headers after a body) are refused: no code reads them, and they have no limit."""
        if self not in self.half_open:
            raise ValueError("trailers are not supported")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._end_wait()
        self._wait_for_body()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._end_wait()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse invalid HTTP, or too much of it, in the form of every other error."""
        body = ErrorBody(message=msg, type="invalid_request_error", code="invalid_http")
        content = json.dumps({"error": body.model_dump()}).encode()
        head = f"content-type: application/json\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[400] + head.encode() + content)
        self.transport.close()

    def _begin_headers(self) -> None:
        self._header_bytes = 0
        self.half_open[self] = None
        self._timer = self.loop.call_later(self.header_s, self._give_up)
        if len(self.half_open) > self.most_half_open:
            next(iter(self.half_open))._give_up()

    def _wait_for_body(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self.body_s, self._body_is_silent)

    def _body_is_silent(self) -> None:
        if self.flow.read_paused:  # this side is not reading
            self._wait_for_body()
        else:
            self._give_up()

    def _give_up(self) -> None:
        self._end_wait()
        self.transport.abort()

    def _end_wait(self) -> None:
        self.half_open.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def bounded(header_s: float, body_s: float) -> type[BoundedConnection]:
    """The class for `uvicorn.run(http=...)`. Half of the process's descriptors may be half-open connections, a quarter idle ones."""
    most = descriptors() // 2
    limits = {"header_s": header_s, "body_s": body_s, "half_open": {}, "idle": {}}
    limits |= {"most_half_open": max(64, most), "most_idle": max(32, most // 2)}
    return type("Connection", (BoundedConnection,), limits)


def descriptors() -> int:
    """Raise the process's limit of descriptors as far as allowed, and return it. Shells give 1024, which is soon used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FEW_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, FEW_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(most, 0 if soft == resource.RLIM_INFINITY else soft)
