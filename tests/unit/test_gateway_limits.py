"""What a provider gets at once and whether it gets any: room, breaker, pace. No provider is asked."""

import asyncio
import time

import pytest
from pydantic import SecretStr

from services.strong_model.gateway import errors
from services.strong_model.gateway.concurrency import Breaker, Gate, Room
from services.strong_model.gateway.rate_limit import Bucket, Pace
from services.strong_model.settings import Provider, StrongSettings

PROVIDER = Provider("p", "http://p/v1", "m", SecretStr(""), SecretStr(""), 0.0, 0.0, "a", "k")
BUSY = errors.refused(PROVIDER, 429, {"retry-after": "0.3"}, b"{}")
BROKEN = errors.refused(PROVIDER, 500, {}, b"{}")
REFUSED = errors.refused(PROVIDER, 400, {}, b"{}")


async def test_a_room_lets_in_as_many_as_it_holds_and_the_rest_in_their_order():
    room = Room("a", 2)
    entered: list[int] = []

    async def enter(number: int) -> None:
        await room.enter()
        entered.append(number)

    tasks = [asyncio.create_task(enter(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert entered == [0, 1]
    tasks[2].cancel()
    room.leave()
    await asyncio.sleep(0.01)
    assert entered == [0, 1, 3]
    room.leave()
    tasks[4].cancel()  # it was just given a place, and gives it on
    await asyncio.sleep(0.01)
    assert room.open == 1
    await room.enter()
    assert room.open == 2


def test_one_burst_of_refusals_halves_once_and_rounds_of_successes_add_one():
    room = Room("b", 16)
    room.open = 16
    before = room.generation
    for _ in range(16):
        room.note(before, overloaded=True)
    assert room.limit == 8
    room.note(before, overloaded=False)
    assert room.limit == 8
    for _ in range(8):
        room.note(room.generation, overloaded=False)
    assert room.limit == 9
    for _ in range(10):
        room.note(room.generation, overloaded=True)
    assert room.limit == 1, "somebody must go on asking"
    room.open = 0
    for _ in range(1000):
        room.note(room.generation, overloaded=False)
    assert room.limit == 1, "successes of calls that had room to spare say nothing"
    room.open = 16
    for _ in range(1000):
        room.note(room.generation, overloaded=False)
    assert room.limit == 16


async def test_a_breaker_opens_after_failures_in_a_row_and_lets_one_probe_through_per_pause():
    breaker = Breaker("c", failures=3, pause_s=0.1)
    for failure in (BROKEN, BROKEN, None, BROKEN, BROKEN):
        breaker.note(failure)
    assert breaker.wait_s() == 0
    breaker.note(BROKEN)
    assert 0 < breaker.wait_s() <= 0.1
    await breaker.closed(0.11)
    assert breaker.wait_s() == 0, "the probe"
    assert breaker.wait_s() > 0, "and nobody beside it"
    waiting = asyncio.create_task(breaker.closed(60))
    await asyncio.sleep(0)
    breaker.note(None)
    await asyncio.wait_for(waiting, 1)
    assert breaker.wait_s() == 0


def test_only_what_says_that_a_provider_is_down_counts_for_its_breaker():
    gate = Gate("d", 8, StrongSettings(breaker_failures=2))
    for failure in (REFUSED, BUSY, REFUSED, BUSY, BROKEN):
        gate.note(0, failure)
    assert not gate.breaker.open
    assert gate.room.limit == 4
    assert 0 < gate.wait_s() <= 0.3
    gate.note(0, errors.timed_out(PROVIDER, 1))
    assert gate.breaker.open
    said = errors.resting(PROVIDER, 5.0, gate.breaker.cause)
    assert (said.code, said.connected) == ("teacher_timeout", False), "what is wrong, not that we wait"
    assert "no whole answer" in said.message
    gate.note(0, None)
    assert not gate.breaker.open
    assert gate.breaker.cause is None


@pytest.mark.parametrize("limit", [1, 3, 6, 600, 100_000])
def test_no_minute_sees_more_than_the_limit(limit: int):
    bucket = Bucket.per_minute("x", limit)
    assert bucket.capacity + 60 * bucket.rate <= max(limit, 1.5)


@pytest.fixture
def limited() -> Provider:
    return PROVIDER._replace(requests_per_minute=60, tokens_per_minute=6000)


async def test_processes_share_their_buckets(valkey: str, limited: Provider):
    paces = [Pace(limited, valkey, "t:") for _ in range(2)]
    taken = [await paces[n % 2].wait_s(10) for n in range(14)]
    assert taken.count(0) == 10, "a sixth of a minute's requests at once"
    assert 0 < max(taken) <= 1.3
    for pace in paces:
        await pace.close()


async def test_tokens_are_bounded_too_and_given_back(valkey: str, limited: Provider):
    pace = Pace(limited, valkey, "t:")
    assert await pace.wait_s(900) == 0
    wait = await pace.wait_s(900)
    assert wait == pytest.approx(800 / (5000 / 60), rel=0.05)
    await pace.give_back(850)
    assert await pace.wait_s(900) == 0
    assert await pace.wait_s(5000) > 0, "what exceeds a bucket waits until it is full"
    await pace.close()


async def test_without_redis_a_process_keeps_to_the_limits_by_itself(limited: Provider, free_port):
    pace = Pace(limited, f"redis://127.0.0.1:{free_port()}/0", "t:")
    taken = [await pace.wait_s(10) for _ in range(14)]
    assert taken.count(0) == 10
    await pace.give_back(5)
    assert await Pace(PROVIDER, "redis://127.0.0.1:1/0", "t:").wait_s(10**9) == 0, "no limits, nothing asked"
    await pace.close()


async def test_a_wait_ends_when_it_said(valkey: str):
    pace = Pace(PROVIDER._replace(requests_per_minute=600), valkey, "t:")
    while not (wait := await pace.wait_s(1)):
        pass
    started = time.monotonic()
    await asyncio.sleep(wait)
    assert await pace.wait_s(1) < 0.02
    assert time.monotonic() - started < 1
    await pace.close()
