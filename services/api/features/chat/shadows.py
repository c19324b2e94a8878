"""Copies of chats for a version under shadow test: at the lowest priority, few at once. Their results go into metrics, and to whoever
compares them with what was answered."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from services.api.engine_client import EngineClient
from services.api.features.chat.metrics import ChatMetrics
from services.api.features.chat.service import Body
from services.api.model_router import Target
from shared.contracts.engine import Priority
from shared.contracts.errors import MeteorError, UserError
from shared.platform.log import get_logger

log = get_logger(__name__)

Compare = Callable[[bytes], Awaitable[None]]  # gets the engine's whole answer to the copy
NOT_COPIED = ("stream", "stream_options")


class Shadows:
    """limit: copies in flight; further ones are dropped and counted as dropped."""

    def __init__(self, engine: EngineClient, limit: int):
        self.engine = engine
        self.limit = limit
        self.takes_priority = True  # until the engine refuses the field
        self._running: set[asyncio.Task[None]] = set()

    def send(self, project: str, path: str, sent: Body, target: Target, compare: Compare | None = None) -> None:
        """Returns at once. sent: the request that the served version got. compare: takes part in the limit."""
        metrics = ChatMetrics(project, target)
        if len(self._running) >= self.limit:
            metrics.end("dropped")
            return
        body = {name: value for name, value in sent.items() if name not in NOT_COPIED} | {"model": target.engine_name}
        task = asyncio.create_task(self._measure(path, body, metrics, compare))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _measure(self, path: str, body: Body, metrics: ChatMetrics, compare: Compare | None) -> None:
        answer = None
        with contextlib.suppress(MeteorError), metrics.until_answered():  # counted; no caller waits for the result
            answer = await self._ask(path, body)
            metrics.end("ok")
        if answer is not None and compare is not None:
            try:
                await compare(answer)
            except Exception:  # of whatever a grader raises; nobody waits for it
                log.exception("an answer to a copy was not compared")

    async def _ask(self, path: str, body: Body) -> bytes:
        """served_by stays empty: the engine loads no other model for a shadow."""
        if self.takes_priority:
            try:
                return await self.engine.whole(path, body | {"priority": Priority.SHADOW}, "")
            except UserError as error:
                if "priority" not in error.message.lower():
                    raise
                self.takes_priority = False
        return await self.engine.whole(path, body, "")

    async def aclose(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
