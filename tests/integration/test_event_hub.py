"""Open event streams on one process: one look for all of them, everything told once and in order, whoever is slow."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Mapping

import pytest

from services.api.features.events.hub import KEPT, PING, RETRY, EventHub, TooManyStreams
from services.api.settings import ApiSettings
from shared.contracts.jobs import JobStatus
from shared.jobs.event_store import EventStore, News
from shared.jobs.schema import Stores, open_stores
from tests.fakes.store_moves import running

POLL_S = 0.05
ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)


@pytest.fixture
def sqlite_stores(sqlite_url: str) -> Stores:
    return open_stores(sqlite_url)


class CountingStore(EventStore):
    looks = 0

    def news(self, cursors: Mapping[str, int], limit: int) -> News:
        self.looks += 1
        return super().news(cursors, limit)


@contextlib.asynccontextmanager
async def hub_of(stores: Stores, **settings) -> AsyncGenerator[tuple[EventHub, CountingStore]]:
    counting = CountingStore(stores.jobs.engine)
    hub = EventHub(stores._replace(events=counting), ApiSettings(events_poll_s=POLL_S, **settings))
    task = asyncio.create_task(hub.run())
    try:
        yield hub, counting
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def told(stream: AsyncGenerator[bytes, None], nap_s: float = 0.0) -> tuple[list[int], bytes]:
    """(the sequences in the order in which they came, the last chunk)"""
    numbers, last = [], b""
    async with contextlib.aclosing(stream):
        async for last in stream:
            numbers += map(int, ID.findall(last))
            await asyncio.sleep(nap_s)
    return numbers, last


def sequences(stores: Stores, job) -> list[int]:
    return [row.sequence for row in stores.jobs.events(job.id, limit=10_000)]


async def test_one_look_serves_all_streams(sqlite_stores: Stores, new_job):
    jobs = [new_job(sqlite_stores) for _ in range(3)]
    async with hub_of(sqlite_stores) as (hub, counting):
        assert counting.looks <= 1
        readers = [asyncio.create_task(told(hub.follow(jobs[n % 3].id, 0))) for n in range(60)]
        for n in range(20):
            await asyncio.to_thread(sqlite_stores.jobs.add_event, jobs[n % 3], f"event {n}")
            await asyncio.sleep(POLL_S / 2)
        for job in jobs:
            await asyncio.to_thread(sqlite_stores.jobs.cancel, job)
        async with asyncio.timeout(20):
            results = await asyncio.gather(*readers)
        looks = counting.looks
        await asyncio.sleep(3 * POLL_S)
        assert counting.looks <= looks + 1, "without a reader nobody looks"
    for n, (numbers, last) in enumerate(results):
        assert numbers == sequences(sqlite_stores, jobs[n % 3])
        assert last == b'event: done\ndata: {"status": "cancelled"}\n\n'
    assert looks < 60, "far fewer than 60 streams times 20 polls"


async def test_a_slow_reader_misses_nothing_and_a_quick_one_does_not_wait(sqlite_stores: Stores, new_job):
    job = new_job(sqlite_stores)
    row = running(sqlite_stores, job)
    first = sequences(sqlite_stores, job)[0]
    async with hub_of(sqlite_stores) as (hub, _):
        slow = hub.follow(job.id, 0)
        assert await anext(slow) == RETRY
        begun = await anext(slow)
        quick = asyncio.create_task(told(hub.follow(job.id, first)))
        for n in range(2 * KEPT + 50):  # more than readers share
            await asyncio.to_thread(sqlite_stores.jobs.add_event, row, f"event {n}")
        await asyncio.to_thread(sqlite_stores.jobs.end, row, JobStatus.SUCCEEDED)
        async with asyncio.timeout(20):
            numbers, _ = await quick
            assert numbers == sequences(sqlite_stores, job)[1:], "replay begins behind Last-Event-ID"
            late, last = await told(slow)
    assert [*map(int, ID.findall(begun)), *late] == sequences(sqlite_stores, job)
    assert last == b'event: done\ndata: {"status": "succeeded"}\n\n'


async def test_silence_is_filled_and_the_number_of_streams_has_a_limit(sqlite_stores: Stores, new_job):
    job = new_job(sqlite_stores)
    async with hub_of(sqlite_stores, events_ping_s=0.1, events_streams=2) as (hub, _):
        async with asyncio.timeout(20):
            streams = [hub.follow(job.id, 0) for _ in range(2)]
            for stream in streams:
                assert await anext(stream) == RETRY
                assert ID.search(await anext(stream))
                assert await anext(stream) == PING
            with pytest.raises(TooManyStreams):
                hub.refuse_if_full()
            for stream in streams:
                await stream.aclose()
            hub.refuse_if_full()


def test_news_of_many_jobs(stores: Stores, new_job):
    first, second = new_job(stores), new_job(stores)
    seen = stores.events.last(first.id)
    assert stores.events.last("ftjob-nobody") == 0
    stores.jobs.add_event(first, "new")
    stores.jobs.cancel(second)
    cursors = {first.id: seen, second.id: 0, "ftjob-nobody": 0}
    news = stores.events.news(cursors, 100)
    assert [row.message for row in news.events[first.id]] == ["new"]
    assert [row.message for row in news.events[second.id]] == ["job created and queued", "job cancelled"]
    assert (news.ended, news.more) == ({second.id: "cancelled", "ftjob-nobody": "deleted"}, False)
    cut = stores.events.news(cursors, 2)
    assert (cut.ended, cut.more) == ({}, True), "nobody has ended of whom there may be more to tell"
