"""Open event streams. One look into the store serves all of them, and each event is put into words once.

Readers of a job share its newest events; one that lags behind reads on from the store, by sequence. So a reader that stalls
costs what stands in its socket's buffer and nothing else, and no reader has a queue that could grow.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from itertools import islice
from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from services.api.features.events.service import as_object
from services.api.settings import ApiSettings
from shared.contracts.errors import TransientError
from shared.db.engine import UNAVAILABLE
from shared.jobs.records import EventRecord
from shared.jobs.schema import Stores
from shared.platform.log import get_logger

log = get_logger(__name__)
LOOK = 200  # events that one look brings, of all jobs
PAGE = 50  # events that a reader who lags behind is given at once
PIECE = 1 << 16  # bytes that others are given at once, or one event
KEPT = 200  # events of a job that its readers share
JOBS_A_LOOK = 100  # jobs in one query
RETRY, PING = b"retry: 3000\n\n", b": ping\n\n"


class TooManyStreams(TransientError):
    code = "too_many_streams"
    retry_after_s = 5


def frame(row: EventRecord) -> bytes:
    event = as_object(row)
    return f"id: {row.sequence}\nevent: {event.event}\ndata: {event.model_dump_json()}\n\n".encode()


def frame_done(status: str) -> bytes:
    return f"event: done\ndata: {json.dumps({'status': status})}\n\n".encode()


class Channel:
    """One job's newest events: all those after `floor`, up to `seen`. ended: its final status, once there is no more to tell."""

    def __init__(self, seen: int):
        self.floor = self.seen = seen
        self.kept: deque[tuple[int, bytes]] = deque()
        self.readers = 0
        self.ended: str | None = None
        self.news = asyncio.Event()  # set once; then there is another one

    def take(self, rows: Sequence[EventRecord], ended: str | None) -> None:
        for row in rows:
            self.kept.append((row.sequence, frame(row)))
            self.seen = row.sequence
            if len(self.kept) > KEPT:
                self.floor, _ = self.kept.popleft()
        self.ended = ended
        if rows or ended:
            news, self.news = self.news, asyncio.Event()
            news.set()

    def after(self, seen: int) -> tuple[int, bytes]:
        """What comes behind `seen`, and the last sequence in it."""
        parts, size = [], 0
        for sequence, part in self.kept:
            if sequence > seen and size < PIECE:
                parts.append(part)
                size += len(part)
                seen = sequence
        return seen, b"".join(parts)


class EventHub:
    """`run` looks into the store for ever; `follow` is one stream."""

    def __init__(self, stores: Stores, settings: ApiSettings):
        self._stores = stores
        self._settings = settings
        self._channels: dict[str, Channel] = {}
        self._look_now = asyncio.Event()

    def refuse_if_full(self) -> None:
        """Raises TooManyStreams."""
        if sum(channel.readers for channel in self._channels.values()) >= self._settings.events_streams:
            raise TooManyStreams(
                f"{self._settings.events_streams} event streams are open; try again, or list the events"
            )

    async def run(self) -> None:
        while True:
            self._look_now.clear()
            try:
                await self._look()
            except UNAVAILABLE as error:
                log.warning("database away, event streams wait", error=str(error))
            except Exception:
                log.exception("event streams are not served this time")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.events_poll_s if self._channels else None):
                    await self._look_now.wait()

    async def _look(self) -> None:
        open_jobs = iter([(job_id, channel) for job_id, channel in self._channels.items() if channel.ended is None])
        while batch := dict(islice(open_jobs, JOBS_A_LOOK)):
            cursors = {job_id: channel.seen for job_id, channel in batch.items()}
            news = await run_in_threadpool(self._stores.events.news, cursors, LOOK)
            for job_id, channel in batch.items():
                channel.take(news.events.get(job_id, ()), news.ended.get(job_id))
            if news.more:
                self._look_now.set()

    async def follow(self, job_id: str, seen: int) -> AsyncGenerator[bytes, None]:
        """All events after sequence `seen`, then new ones as they come; ends with `event: done` when the job has ended."""
        yield RETRY
        async with self.joined(job_id) as channel:
            while True:
                if seen < channel.floor:
                    rows = await run_in_threadpool(self._stores.jobs.events, job_id, after=seen, limit=PAGE)
                    seen = rows[-1].sequence if rows else channel.floor
                    if rows:
                        yield b"".join(map(frame, rows))
                    continue
                news, ended = channel.news, channel.ended
                seen, chunk = channel.after(seen)
                if chunk:
                    yield chunk
                elif ended is not None:
                    yield frame_done(ended)
                    return
                else:
                    try:
                        async with asyncio.timeout(self._settings.events_ping_s):
                            await news.wait()
                    except TimeoutError:
                        yield PING

    @contextlib.asynccontextmanager
    async def joined(self, job_id: str) -> AsyncGenerator[Channel, None]:
        """The job's channel, which is looked after for so long."""
        if job_id not in self._channels:
            last = await run_in_threadpool(self._stores.events.last, job_id)
            self._channels.setdefault(job_id, Channel(last))
        channel = self._channels[job_id]
        channel.readers += 1
        self._look_now.set()
        try:
            yield channel
        finally:
            channel.readers -= 1
            if not channel.readers:
                del self._channels[job_id]


async def event_hub(request: Request) -> EventHub:
    return request.app.state.hub


Hub = Annotated[EventHub, Depends(event_hub)]
