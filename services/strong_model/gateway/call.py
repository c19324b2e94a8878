"""What goes through the chain: a call with its callers, the attempts at it at one provider, and the completion."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from services.strong_model.gateway.completions import Completion, Habits
from services.strong_model.gateway.errors import ProviderError
from services.strong_model.gateway.providers import Provider
from services.strong_model.settings import StrongSettings
from shared.contracts.errors import Cancelled
from shared.contracts.json_types import Json
from shared.contracts.providers import Change
from shared.ledger.store import CallOrigin

T = TypeVar("T")
CANCELLED = "the calls of this step were cancelled"


class WaitingCaller(NamedTuple):
    """One HTTP request that waits for a call. client_id tells attempts of a step apart."""

    number: int
    origin: CallOrigin
    client_id: str | None


class Answer(NamedTuple):
    """cached: it came from the ledger, so nothing was sent."""

    body: Json
    cached: bool


@dataclass(eq=False)
class Call:
    """A request in flight.

    providers: the one asked for, then its fallbacks. former_hash: see completions.Identity; None for a request whose answer is
    not cached for equal ones.
    callers: all that were not cancelled, disconnected ones included; waiting: the numbers of the connected ones.
    chunks: of a streamed call, then None. delivered: a chunk was handed out, so the request cannot be sent again.
    sent: an attempt is on its way, or its end is being written. ended: only the latter, so that nothing stops the call: equal
    requests wait for the answer that is there already, and do not pay for another one.
    passed_over: calls whose cached answers do not count for it: its attempts so far, and one whose answer is outdated.
    """

    providers: Sequence[Provider]
    body: Json
    request_hash: str
    origin: CallOrigin
    former_hash: str | None
    chunks: asyncio.Queue[Json | None] | None = None
    callers: dict[int, WaitingCaller] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    sent: bool = False
    ended: bool = False
    passed_over: set[str] = field(default_factory=set)
    delivered: bool = False
    call_id: str | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[Answer] = field(init=False)

    @property
    def repeatable(self) -> bool:
        """Its answer is cached for equal requests."""
        return self.former_hash is not None

    def join(self, caller: WaitingCaller) -> None:
        self.callers[caller.number] = caller
        self.waiting.add(caller.number)

    def leave(self, caller: WaitingCaller) -> None:
        """The caller disconnected. Stop the call if it is unsent and nobody waits for it."""
        self.waiting.discard(caller.number)
        self.stop_if_abandoned()

    def stop_if_abandoned(self) -> None:
        if not self.waiting and not self.sent:
            self.stopped.set()

    def cancel(self, step_id: str, client_id: str | None) -> bool:
        """Remove a cancelled step's callers; True when nobody is left, which stops the call unless its answer is there."""
        for caller in list(self.callers.values()):
            if caller.origin.step_id == step_id and client_id in (None, caller.client_id):
                self.waiting.discard(caller.number)
                del self.callers[caller.number]
        if not self.callers and not self.ended:
            self.stopped.set()
        return not self.callers

    def deliver(self, chunk: Json) -> None:
        self.delivered = True
        if self.chunks is not None:
            self.chunks.put_nowait(chunk)

    def raise_if_stopped(self) -> None:
        if self.stopped.is_set():
            raise Cancelled(CANCELLED)

    async def unless_stopped(self, work: Awaitable[T]) -> T:
        """The result of work, which is cancelled when the call is stopped; raises Cancelled then."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self.stopped.wait())
        try:
            if not self.stopped.is_set():
                await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Cancelled(CANCELLED)
        finally:
            for pending in (task, stop):
                if not pending.done():
                    pending.cancel()
                    with contextlib.suppress(asyncio.CancelledError, ProviderError):
                        await pending


class Ticket(NamedTuple):
    """A caller's hold on a call. first: it opened the call, so the chunks of a stream are its own."""

    call: Call
    caller: WaitingCaller
    first: bool

    def leave(self) -> None:
        self.call.leave(self.caller)


@dataclass(eq=False)
class Attempts:
    """The attempts of a call at one provider, one after the other. Times are monotonic seconds.

    last: no fallback is left, so waiting for this provider is worth while.
    started_at: when the first attempt passed the limiters; until then, when the provider's turn came.
    began_at: when the latest attempt passed them.
    limited_since: when the provider refused the first attempt for its rate, if nothing else came after it.
    sent: the body of the latest attempt on the wire; changed: what was changed in it for this provider.
    habits: what is known of the model's answers.
    """

    call: Call
    provider: Provider
    settings: StrongSettings
    last: bool
    failures: int = 0
    started_at: float = field(default_factory=time.monotonic)
    began_at: float = 0.0
    limited_since: float | None = None
    sent: Json = field(default_factory=dict)
    changed: list[Change] = field(default_factory=list)
    habits: Habits = field(default_factory=Habits)

    def begin(self) -> None:
        """An attempt passed the limiters. The first one starts the clock: waiting for the limiters is no attempt."""
        self.began_at = time.monotonic()
        if not self.failures:
            self.started_at = self.began_at

    def limited(self) -> bool:
        """The attempt was refused for the provider's rate: it cost time, which does not count, and is no attempt. False where
        that has gone on for a whole deadline."""
        now = time.monotonic()
        self.started_at += now - self.began_at
        self.limited_since = self.limited_since or now
        return now < self.limited_since + self.settings.deadline.total_seconds()

    @property
    def deadline(self) -> float:
        return self.started_at + self.settings.deadline.total_seconds()

    @property
    def unavailable_deadline(self) -> float:
        """Until then a provider that takes no connection is asked again."""
        return min(self.deadline, self.started_at + self.settings.unavailable_timeout.total_seconds())

    @property
    def timeout_s(self) -> float:
        """Of the attempt that begins now."""
        return min(self.settings.attempt_timeout.total_seconds(), max(self.deadline - time.monotonic(), 0.1))


Send = Callable[[Attempts], Awaitable[Completion]]


class GatewayStage(Protocol):
    """One stage between the retries and the provider; `proceed` sends the attempt through the stages below."""

    async def __call__(self, attempts: Attempts, proceed: Send) -> Completion: ...


def chained(*stages: GatewayStage, end: Send) -> Send:
    """The stages as one function, the first outermost."""
    for stage in reversed(stages):
        end = partial(stage, proceed=end)
    return end
