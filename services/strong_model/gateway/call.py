"""A request in flight and those who wait for it."""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, NamedTuple

from services.strong_model.gateway.errors import TeacherFailure
from services.strong_model.gateway.provider import ProviderClient
from shared.contracts.errors import Cancelled
from shared.ledger.store import CallOrigin

STOPPED = "the calls of this step were cancelled"


class WaitingCaller(NamedTuple):
    """One HTTP request that waits for a call. client_id tells attempts of a step apart."""

    number: int
    origin: CallOrigin
    client_id: str | None


class Answer(NamedTuple):
    body: dict[str, Any]
    kept: bool  # it was in the ledger: nothing was sent


class Call:
    """A request in flight. callers: all that were not cancelled, gone ones too; waiting: those still connected.

    others: whom to ask where the first provider fails. again: its answer is kept and given to who asks the same again.
    """

    def __init__(
        self, clients: list[ProviderClient], body: dict[str, Any], request_hash: str, origin: CallOrigin, again: bool
    ):
        self.client, *self.others = clients
        self.again = again
        self.body = body
        self.request_hash = request_hash
        self.origin = origin
        self.callers: dict[int, WaitingCaller] = {}
        self.waiting: set[int] = set()
        self.sent = False
        self.call_id: str | None = None
        self.stopped = asyncio.Event()
        self.chunks: asyncio.Queue[dict[str, Any] | None] | None = None  # ends with None
        self.delivered = False  # a chunk went out, so the request cannot be sent again unnoticed
        self.task: asyncio.Task[Answer]

    def join(self, caller: WaitingCaller) -> None:
        self.callers[caller.number] = caller
        self.waiting.add(caller.number)

    def leave(self, caller: WaitingCaller) -> None:
        """The caller hung up. What was not sent yet is not sent for nobody."""
        self.waiting.discard(caller.number)
        if not self.waiting and not self.sent:
            self.stopped.set()

    def cancel(self, step_id: str, client_id: str | None) -> bool:
        """Strike out a cancelled step's callers; True when that stops the call."""
        for caller in list(self.callers.values()):
            if caller.origin.step_id == step_id and client_id in (None, caller.client_id):
                self.waiting.discard(caller.number)
                del self.callers[caller.number]
        if not self.callers:
            self.stopped.set()
        return not self.callers

    def take(self, chunk: dict[str, Any]) -> None:
        self.delivered = True
        if self.chunks is not None:
            self.chunks.put_nowait(chunk)

    def raise_if_stopped(self) -> None:
        if self.stopped.is_set():
            raise Cancelled(STOPPED)

    async def unless_stopped(self, work: Awaitable[Any]) -> Any:
        """Wait for work, but give it up when the call is stopped; raises Cancelled then."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self.stopped.wait())
        try:
            if not self.stopped.is_set():
                await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Cancelled(STOPPED)
        finally:
            for pending in (task, stop):
                if not pending.done():
                    pending.cancel()
                    with contextlib.suppress(asyncio.CancelledError, TeacherFailure):
                        await pending


class Ticket(NamedTuple):
    """A caller's hold on a call. first: it opened the call, so the chunks of a stream are its own."""

    call: Call
    caller: WaitingCaller
    first: bool

    def leave(self) -> None:
        self.call.leave(self.caller)
