"""Copies of chats for a version that is tried in the shadow: behind everything else, few at once, results only in metrics."""

import asyncio
import contextlib
from typing import Any

from services.api.engine_client import EngineClient
from services.api.features.chat.metrics import ChatWatch
from services.api.features.chat.routing import Target
from services.api.features.chat.service import Route
from shared.contracts.engine import Priority
from shared.contracts.errors import MeteorError, UserError

NOT_COPIED = ("stream", "stream_options")


class Shadows:
    """most: copies on their way at once; beyond that they are dropped, and counted as dropped."""

    def __init__(self, engine: EngineClient, most: int):
        self.engine = engine
        self.most = most
        self.takes_priority = True  # until the engine says otherwise
        self._running: set[asyncio.Task[None]] = set()

    def send(self, project: str, route: Route, sent: dict[str, Any], target: Target) -> None:
        """Returns at once. sent: what the served version was asked."""
        watch = ChatWatch(project, target)
        if len(self._running) >= self.most:
            watch.end("dropped")
            return
        body = {name: value for name, value in sent.items() if name not in NOT_COPIED} | {"model": target.engine_name}
        task = asyncio.create_task(self._answered(route, body, watch))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answered(self, route: Route, body: dict[str, Any], watch: ChatWatch) -> None:
        with contextlib.suppress(MeteorError), watch.until_answered():  # counted, and nobody waits for it
            await self._asked(route, body)
            watch.end("ok")

    async def _asked(self, route: Route, body: dict[str, Any]) -> None:
        if self.takes_priority:
            try:
                await self.engine.whole(route.path, body | {"priority": Priority.SHADOW}, "")
                return
            except UserError as error:
                if "priority" not in error.message.lower():
                    raise
                self.takes_priority = False
        await self.engine.whole(route.path, body, "")  # for no shadow another model is loaded

    async def aclose(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
