"""The stage that finds out how a provider wants its requests, and remembers it.

A refused parameter is left out, renamed or replaced, and the request is sent again: a refusal is unpaid. An answer that
reasoning used up is asked for again with more room: that is paid, so it happens ROOM_TRIES times at most. Each attempt
has its own row in the ledger. What was learned holds for KEPT_S, for this model under these settings.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from pydantic import BaseModel

from services.strong_model.gateway import answer_limits, completions, metrics, refusals
from services.strong_model.gateway.adapt import Adapted, Rule, adapted, format_type, streams
from services.strong_model.gateway.call import Attempts, Call, Send
from services.strong_model.gateway.completions import Completion, Habits
from services.strong_model.gateway.errors import ProviderError
from services.strong_model.gateway.normalise import UNOPENED
from services.strong_model.gateway.providers import Provider
from shared.contracts.errors import BudgetExceeded
from shared.contracts.json_types import Json
from shared.contracts.masking import masked
from shared.contracts.providers import ProviderStatus
from shared.contracts.steps import content_hash
from shared.db.engine import UNAVAILABLE
from shared.ledger.learned_store import LearnedStore
from shared.platform.log import get_logger

log = get_logger(__name__)
KEPT_S = 7 * 24 * 3600.0
CHANGES = 12  # of one request
ROOM, ROOM_FACTOR, ROOM_TRIES = (
    2048,
    4,
    3,
)  # tokens added first; how it grows; paid attempts with more room, per request
HEADSTART_S = (
    2.0  # others wait so long for the first request of a kind: a refusal comes fast, an answer may take minutes
)
REQUEST_AT_FAULT = frozenset({400, 422})
OF_SETTINGS = [
    "base_url",
    "model",
    "extra",
    "omit",
    "query",
    "api_key_header",
    "reasoning_effort",
    "stream",
    "json_schema",
    "answer_room",
    "finished_by",
]

Kind = frozenset[tuple[str, object]]


class Learned(BaseModel):
    """What is stored. room: tokens that reasoning needs beside the answer. whole, unopened: see completions.Habits.

    context: tokens of prompt and answer that it takes, where it said so. since: when the first of it was learned, Unix seconds;
    at: the latest rule or room.
    """

    rules: list[Rule] = []
    room: int = 0
    whole: bool = False
    unopened: bool = False
    context: int | None = None
    since: float = 0.0
    at: float = 0.0


class Negotiation:
    """One provider's stage, and what was learned of it."""

    def __init__(self, provider: Provider, store: LearnedStore):
        self.provider = provider
        self.store = store
        self.settings_hash = content_hash(provider.model_dump(mode="json", include=set(OF_SETTINGS)))
        self.learned = Learned.model_validate(store.load(provider.name, self.settings_hash) or {})
        self._times: dict[tuple[str, str, str | None], int] = {}
        self._accepted: set[Kind] = set()
        self._first: asyncio.Event | None = None  # set when the first request of its kind came back

    async def __call__(self, attempts: Attempts, proceed: Send) -> Completion:
        call = attempts.call
        if self.learned.since and time.time() > self.learned.since + KEPT_S:
            await self.forget()
        async with self._first_of_its_kind(call):
            completion = await self._ask(attempts, proceed)
            unsure = completion.outcome == "cut_off" and not attempts.habits.whole and self.provider.answer_room
            if not unsure or call.delivered or not call.waiting:
                return completion
            return await self._ask_longer(attempts, proceed, completion)

    async def _ask(self, attempts: Attempts, proceed: Send, more: int = 0) -> Completion:
        """more: tokens of room for this request alone."""
        call = attempts.call
        tried: list[Rule] = []
        room_tries = 0
        while True:
            result = self.adapt(call.body, tried, more, stream=call.chunks is not None)
            attempts.habits = self.habits
            attempts.sent, attempts.changed = result.sent, [rule.change() for rule in result.applied]
            try:
                completion = await proceed(attempts)
            except ProviderError as failure:
                await self._note_context(failure)
                if self._needs_room(failure) and room_tries < ROOM_TRIES and await self._more_room():
                    room_tries += 1
                    continue
                rule = self._change(failure, attempts.sent, [*self.learned.rules, *tried])
                if rule is None or call.delivered or len(tried) >= CHANGES:
                    raise self._judged(failure, call) from None
                name, change = self.provider.name, rule.change()
                log.info("a refused request is changed", provider=name, field=change.field, how=change.how)
                tried.append(rule)
                continue
            await self._accept(call, tried, result, completion)
            if completion.outcome != "thought" or call.delivered or room_tries >= ROOM_TRIES or not call.waiting:
                return completion
            had = _room_of(attempts.sent, call.body) - more
            if self.learned.room <= had and not await self._more_room():
                return completion
            room_tries += 1

    async def _ask_longer(self, attempts: Attempts, proceed: Send, cut: Completion) -> Completion:
        """A model that has given no whole answer yet was cut: while it reasoned, or because it writes more than was asked for?
        It is asked once with more room, and the answer tells."""
        self.learned = self.learned.model_copy(update={"whole": True})  # asked once, whatever comes of it
        room = min(ROOM, self.provider.answer_room)
        try:
            longer = await self._ask(attempts, proceed, room)
        except (ProviderError, BudgetExceeded):
            return cut
        if not longer.body["choices"][0]["message"].get("reasoning_content"):
            await self._learn(whole=True)
            return cut
        await self._learn(whole=True, room=max(room, self.learned.room))
        return longer

    def adapt(
        self, body: Json, tried: Iterable[Rule] = (), more: int = 0, *, stream: bool = False, batch: bool = False
    ) -> Adapted:
        """The body as this provider gets it now. tried: changes beside the learned ones. more: tokens of room. batch: for a
        batch, where nothing streams."""
        streamed = not batch and (stream or streams(self.provider, body))
        result = adapted(self.provider, body, [*self.learned.rules, *tried], self.learned.room + more, streamed)
        if batch:
            for name in ("stream", "stream_options"):
                result.sent.pop(name, None)
        return result

    async def learn_from_batch(self, result: Completion | Rule, batched_at: float) -> None:
        """What the answer to a request of a batch teaches, which did not pass this stage. batched_at: when the batch was begun;
        room that was added since then is enough for now."""
        if isinstance(result, Rule):
            if not result.once and all(rule.key != result.key for rule in self.learned.rules):
                await self._learn(rules=[*self.learned.rules, result])
            return
        await self._note_habits(result)
        if result.outcome == "thought" and self.learned.at <= batched_at:
            await self._more_room()

    def change_in_batch(self, failure: ProviderError, sent: Json) -> Rule | None:
        """The change that the refusal of a request of a batch asks for."""
        return self._change(failure, sent, self.learned.rules)

    @property
    def habits(self) -> Habits:
        return Habits(self.learned.whole, self.learned.unopened)

    def status(self) -> ProviderStatus:
        changes = [rule.change(self._times.get(rule.key, 0)) for rule in self.learned.rules]
        return ProviderStatus(
            name=self.provider.name,
            model=self.provider.model,
            address=masked(self.provider.base_url),
            room=self.learned.room,
            context=self.learned.context,
            changed=changes,
        )

    async def forget(self) -> None:
        self.learned, self._accepted = Learned(), set()
        await self._save(None)

    async def _more_room(self) -> bool:
        """Add room for reasoning to every request from now on; False where the provider's setting allows no more."""
        most = self.provider.answer_room
        if self.learned.room >= most:
            return False
        room = min(most, max(ROOM, self.learned.room * ROOM_FACTOR))
        log.info("reasoning gets more room", provider=self.provider.name, tokens=room)
        await self._learn(room=room)
        return True

    def _needs_room(self, failure: ProviderError) -> bool:
        return failure.code == "teacher_rejected" and failure.said is not None and refusals.no_room(failure.said)

    def _change(self, failure: ProviderError, sent: Json, tried: list[Rule]) -> Rule | None:
        """None for a refused content: it is kept as the answer to this request, so that another try would contradict it."""
        if failure.said is None or not failure.outcome.startswith("http_") or failure.code == "teacher_refused_row":
            return None
        rule = refusals.change_for(int(failure.outcome.removeprefix("http_")), failure.said, sent, self.provider, tried)
        return rule and rule.model_copy(update={"why": failure.words})

    def _judged(self, failure: ProviderError, call: Call) -> ProviderError:
        """A refusal is this request's own fault where its kind was accepted before."""
        refused = failure.outcome in {f"http_{status}" for status in REQUEST_AT_FAULT}
        return failure.of_this_request() if refused and kind_of(call.body) in self._accepted else failure

    async def _accept(self, call: Call, tried: list[Rule], sent: Adapted, completion: Completion) -> None:
        self._accepted.add(kind_of(call.body))
        for rule in sent.applied:
            self._times[rule.key] = self._times.get(rule.key, 0) + 1
            metrics.CHANGED.labels(self.provider.name, rule.field).inc()
        new = [rule for rule in tried if not rule.once and rule in sent.applied]
        if sent.sent.get("stream") and completion.cost is None and call.chunks is None and self.provider.stream is None:
            why = "its streams do not say how many tokens they cost"
            new.append(Rule(field="stream", action="stream", value=0, why=why, at=time.time()))
        await self._note_habits(completion)
        known = {rule.key for rule in self.learned.rules}
        if any(rule.key not in known for rule in new):
            rules = [*self.learned.rules, *(rule for rule in new if rule.key not in known)]
            await self._learn(rules=rules)

    async def _note_habits(self, completion: Completion) -> None:
        """From its first whole answer on a cut one is what it looks like. Before that it is asked once with more room."""
        unopened = any(UNOPENED in choice["message"] for choice in completion.body["choices"])
        whole = completion.outcome == "ok"
        if (whole and not self.learned.whole) or (unopened and not self.learned.unopened):
            await self._learn(whole=whole or self.learned.whole, unopened=unopened or self.learned.unopened)

    async def _note_context(self, failure: ProviderError) -> None:
        if failure.code == "teacher_prompt_too_long" and failure.said is not None:
            await self.learn_context(answer_limits.context_of(failure.said))

    async def learn_context(self, tokens: int | None) -> None:
        if tokens is not None and tokens != self.learned.context:
            await self._learn(context=tokens)

    async def _learn(self, **new: Any) -> None:
        now = time.time()
        changed = {"at": now} if {"rules", "room"} & new.keys() else {}
        self.learned = self.learned.model_copy(update={"since": self.learned.since or now} | changed | new)
        await self._save(self.learned.model_dump(mode="json"))

    async def _save(self, content: Json | None) -> None:
        try:
            await asyncio.to_thread(self.store.save, self.provider.name, self.settings_hash, content)
        except UNAVAILABLE as error:
            log.warning("what was learned of a provider is not stored", provider=self.provider.name, error=str(error))

    @contextlib.asynccontextmanager
    async def _first_of_its_kind(self, call: Call) -> AsyncGenerator[None]:
        """The first request of a kind goes alone for a moment: what it learns spares the others a refusal."""
        kind = kind_of(call.body)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEADSTART_S):
                while kind not in self._accepted and self._first is not None:
                    await call.unless_stopped(self._first.wait())
        first = asyncio.Event() if self._first is None and kind not in self._accepted else None
        self._first = first or self._first
        try:
            yield
        finally:
            if first is not None:
                first.set()
                self._first = None


def kind_of(body: Json) -> Kind:
    """What a provider may refuse of a request before it computes anything: its fields, roles and answer's format."""
    roles = frozenset(str(turn.get("role")) for turn in body["messages"])
    return frozenset({*((name, True) for name in body), ("roles", roles), ("format", format_type(body))})


def _room_of(sent: Json, body: Json) -> int:
    """Tokens that were added to the request's limit."""
    return (completions.asked_room(sent) or 0) - (completions.asked_room(body) or 0)
