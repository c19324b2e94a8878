"""Open event streams. One query serves all of them, and each event is encoded once.

Readers of a job share its newest events; a reader that lags behind continues from the store, by sequence. So a stalled reader
costs its socket's buffer and nothing else, and no reader has a queue that could grow.
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
QUERY_EVENTS = 200  # most events that one query returns, of all jobs
QUERY_JOBS = 100  # jobs in one query
PAGE = 50  # events that a lagging reader gets at once
PIECE = 1 << 16  # bytes that other readers get at once, or one event
KEPT = 200  # events of a job that its readers share
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
    """One job's newest events: those after `floor` up to `last`. ended: its final status, once no event can follow."""

    def __init__(self, last: int):
        self.floor = self.last = last
        self.kept: deque[tuple[int, bytes]] = deque()
        self.readers = 0
        self.ended: str | None = None
        self.news = asyncio.Event()  # set once, then replaced

    def add(self, rows: Sequence[EventRecord], ended: str | None) -> None:
        for row in rows:
            self.kept.append((row.sequence, frame(row)))
            self.last = row.sequence
            if len(self.kept) > KEPT:
                self.floor, _ = self.kept.popleft()
        self.ended = ended
        if rows or ended:
            news, self.news = self.news, asyncio.Event()
            news.set()

    def after(self, sent: int) -> tuple[int, bytes]:
        """(last sequence of the piece, piece): the events after `sent`, as many as fit into one piece."""
        parts, size = [], 0
        for sequence, part in self.kept:
            if sequence > sent and size < PIECE:
                parts.append(part)
                size += len(part)
                sent = sequence
        return sent, b"".join(parts)


class EventHub:
    """`run` polls the store; `follow` is one stream."""

    def __init__(self, stores: Stores, settings: ApiSettings):
        self._stores = stores
        self._settings = settings
        self._channels: dict[str, Channel] = {}
        self._poll_now = asyncio.Event()

    def refuse_if_full(self) -> None:
        """Raises TooManyStreams."""
        if sum(channel.readers for channel in self._channels.values()) >= self._settings.events_streams:
            raise TooManyStreams(
                f"{self._settings.events_streams} event streams are open; try again, or list the events"
            )

    async def run(self) -> None:
        while True:
            self._poll_now.clear()
            try:
                await self._poll()
            except UNAVAILABLE as error:
                log.warning("database unavailable, event streams wait", error=str(error))
            except Exception:
                log.exception("polling for events failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.events_poll_s if self._channels else None):
                    await self._poll_now.wait()

    async def _poll(self) -> None:
        open_jobs = iter([(job_id, channel) for job_id, channel in self._channels.items() if channel.ended is None])
        while batch := dict(islice(open_jobs, QUERY_JOBS)):
            cursors = {job_id: channel.last for job_id, channel in batch.items()}
            news = await run_in_threadpool(self._stores.events.news, cursors, QUERY_EVENTS)
            for job_id, channel in batch.items():
                channel.add(news.events.get(job_id, ()), news.ended.get(job_id))
            if news.more:
                self._poll_now.set()

    async def follow(self, job_id: str, sent: int) -> AsyncGenerator[bytes, None]:
        """All events after the sequence `sent`, then new ones as they come; ends with `event: done` when the job has ended."""
        yield RETRY
        async with self.joined(job_id) as channel:
            while True:
                if sent < channel.floor:
                    rows = await run_in_threadpool(self._stores.jobs.events, job_id, after=sent, limit=PAGE)
                    sent = rows[-1].sequence if rows else channel.floor
                    if rows:
                        yield b"".join(map(frame, rows))
                    continue
                news, ended = channel.news, channel.ended
                sent, chunk = channel.after(sent)
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
        """The job's channel, which is polled as long as it has readers."""
        if job_id not in self._channels:
            last = await run_in_threadpool(self._stores.events.last, job_id)
            self._channels.setdefault(job_id, Channel(last))
        channel = self._channels[job_id]
        channel.readers += 1
        self._poll_now.set()
        try:
            yield channel
        finally:
            channel.readers -= 1
            if not channel.readers:
                del self._channels[job_id]


async def event_hub(request: Request) -> EventHub:
    return request.app.state.hub


Hub = Annotated[EventHub, Depends(event_hub)]
