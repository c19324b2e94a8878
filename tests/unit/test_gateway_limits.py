"""The stages between a call and its provider, each alone: concurrency limiter, breaker, rate limiter. No provider is asked."""

import asyncio
import time
from datetime import timedelta

import pytest
from pydantic import SecretStr

from services.strong_model.gateway import errors
from services.strong_model.gateway.breaker import Breaker
from services.strong_model.gateway.call import Attempts, Call, GatewayStage
from services.strong_model.gateway.completions import Completion
from services.strong_model.gateway.concurrency import ConcurrencyLimiter
from services.strong_model.gateway.errors import BreakerOpen, ProviderError
from services.strong_model.gateway.providers import Provider
from services.strong_model.gateway.rate_limit import Bucket, Gate, RateLimiter
from services.strong_model.settings import StrongSettings
from shared.ledger.store import CallOrigin

PROVIDER = Provider(
    name="p",
    base_url="http://p/v1",
    model="m",
    api_key=SecretStr(""),
    headers=SecretStr(""),
    address_from="a",
    key_from="k",
)
BUSY = errors.refused(PROVIDER, 429, {"retry-after": "0.3"}, b"{}")
BROKEN = errors.refused(PROVIDER, 500, {}, b"{}")
REFUSED = errors.refused(PROVIDER, 400, {}, b"{}")
COMPLETION = Completion({}, "ok", None, True)


def gate(backoff_s: float = 0.5, most_s: float = 20.0, longest_s: float = 20.0) -> Gate:
    return Gate(PROVIDER, backoff_s, most_s, longest_s)


async def pass_through(stage: GatewayStage, failure: ProviderError | None, last: bool = True) -> Attempts:
    """Send one attempt through the stage, before a provider that fails like this, or answers."""

    async def provider(attempts: Attempts) -> Completion:
        if not attempts.began_at:
            attempts.begin()
        if failure is not None:
            raise failure
        return COMPLETION

    call = Call([PROVIDER], {"messages": []}, "hash", CallOrigin("p"), former_hash="former")
    attempts = Attempts(call, PROVIDER, StrongSettings(), last)
    if failure is None:
        assert await stage(attempts, provider) is COMPLETION
    else:
        with pytest.raises(ProviderError) as caught:
            await stage(attempts, provider)
        assert caught.value is failure
    return attempts


async def test_as_many_are_admitted_as_the_limit_says_and_the_rest_in_their_order():
    limiter = ConcurrencyLimiter("a", 2)
    entered: list[int] = []

    async def enter(number: int) -> None:
        await limiter.acquire()
        entered.append(number)

    tasks = [asyncio.create_task(enter(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert entered == [0, 1]
    tasks[2].cancel()
    limiter.release()
    await asyncio.sleep(0.01)
    assert entered == [0, 1, 3]
    limiter.release()
    tasks[4].cancel()  # it was just given a slot, and gives it on
    await asyncio.sleep(0.01)
    assert limiter.in_use == 1
    await limiter.acquire()
    assert limiter.in_use == 2


def test_one_burst_of_refusals_halves_once_and_rounds_of_successes_add_one():
    limiter = ConcurrencyLimiter("b", 16)
    limiter.in_use = 16
    before = time.monotonic()
    for _ in range(16):
        limiter.note(before, overloaded=True)
    assert limiter.limit == 8
    limiter.note(before, overloaded=False)
    assert limiter.limit == 8
    for _ in range(8):
        limiter.note(time.monotonic(), overloaded=False)
    assert limiter.limit == 9
    for _ in range(10):
        limiter.note(time.monotonic(), overloaded=True)
    assert limiter.limit == 1, "somebody must go on asking"
    limiter.in_use = 0
    for _ in range(1000):
        limiter.note(time.monotonic(), overloaded=False)
    assert limiter.limit == 1, "a success below the limit proves nothing"
    limiter.in_use = 16
    for _ in range(1000):
        limiter.note(time.monotonic(), overloaded=False)
    assert limiter.limit == 16


async def test_a_breaker_opens_after_failures_in_a_row_and_lets_one_probe_through_per_pause():
    breaker = Breaker("c", StrongSettings(breaker_failures=3, breaker_pause=timedelta(seconds=0.1)))
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


async def test_only_what_says_that_a_provider_is_down_counts_for_its_breaker():
    breaker = Breaker("d", StrongSettings(breaker_failures=2))
    for failure in (REFUSED, BUSY, REFUSED, BUSY, BROKEN):
        await pass_through(breaker, failure)
    assert not breaker.open
    await pass_through(breaker, errors.timed_out(PROVIDER, 1))
    assert breaker.open
    resting = BreakerOpen(PROVIDER, 5.0, breaker.cause)
    assert (resting.code, resting.connected) == ("teacher_timeout", False), "what is wrong, not that we wait"
    assert "no whole answer" in resting.message
    breaker.note(None)
    assert not breaker.open
    assert breaker.cause is None


async def test_an_open_breaker_sends_a_call_with_a_fallback_on_at_once():
    breaker = Breaker("e", StrongSettings(breaker_failures=1, breaker_pause=timedelta(seconds=30)))
    await pass_through(breaker, BROKEN)
    with pytest.raises(BreakerOpen, match="HTTP 500"):
        await pass_through(breaker, None, last=False)


async def test_a_refusal_for_too_many_lowers_the_limit_and_pauses_the_provider():
    limiter = ConcurrencyLimiter("f", 8)
    rates = RateLimiter(PROVIDER, "redis://127.0.0.1:1/0", "t:", gate())
    for failure in (REFUSED, BROKEN, BUSY):
        await pass_through(limiter, failure)
        await pass_through(rates, failure)
    assert (limiter.limit, limiter.in_use) == (4, 0)
    assert 0 < rates.gate.pause_s() <= 0.3
    started = time.monotonic()
    attempts = await pass_through(rates, None)
    assert attempts.began_at - started >= 0.2, "nothing is sent during the pause"
    await rates.close()


def test_a_burst_of_refusals_without_a_hint_closes_the_gate_once_and_the_next_one_for_twice_as_long():
    one = gate(backoff_s=1.0, most_s=3.0)
    limited = errors.refused(PROVIDER, 429, {}, b"{}")
    pauses = []
    began = 0.0
    for _ in range(3):
        began = time.monotonic()
        for _ in range(16):
            one.refused(limited, began)
        pauses.append(round(one.pause_s()))
    assert pauses == [1, 2, 3]
    one.answered()
    one.answered()
    one.refused(limited, time.monotonic())
    assert round(one.pause_s()) == 3, "a longer pause that was asked for stays"
    one.refused(errors.refused(PROVIDER, 429, {"retry-after": "19"}, b"{}"), began)
    assert round(one.pause_s()) == 19
    one.refused(BROKEN, time.monotonic())
    one.refused(errors.refused(PROVIDER, 429, {}, b'{"error": {"code": "insufficient_quota"}}'), time.monotonic())
    assert round(one.wait_s()) == 19


def test_during_a_long_pause_calls_end_at_once_and_say_until_when():
    one = gate(longest_s=60.0)
    one.refused(errors.refused(PROVIDER, 429, {}, b'{"error": {"message": "tokens per day; try again in 2h"}}'), 0.0)
    with pytest.raises(ProviderError, match=r"until \d{4}-.* UTC; it said: .*tokens per day") as caught:
        one.wait_s()
    assert caught.value.retry_after == pytest.approx(7200, abs=5)
    assert (caught.value.code, caught.value.unpaid, caught.value.overloaded) == ("teacher_rate_limited", True, False)


@pytest.mark.parametrize("limit", [1, 3, 6, 600, 100_000])
def test_no_minute_sees_more_than_the_limit(limit: int):
    bucket = Bucket.per_minute("x", limit)
    assert bucket.capacity + 60 * bucket.rate <= max(limit, 1.5)


@pytest.fixture
def limited() -> Provider:
    return PROVIDER.model_copy(update={"requests_per_minute": 60, "tokens_per_minute": 6000})


async def test_processes_share_their_buckets(valkey: str, limited: Provider):
    limiters = [RateLimiter(limited, valkey, "t:", gate()) for _ in range(2)]
    taken = [await limiters[n % 2].wait_s(10) for n in range(14)]
    assert taken.count(0) == 10, "a sixth of a minute's requests at once"
    assert 0 < max(taken) <= 1.3
    for limiter in limiters:
        await limiter.close()


async def test_tokens_are_bounded_too_and_given_back(valkey: str, limited: Provider):
    limiter = RateLimiter(limited, valkey, "t:", gate())
    assert await limiter.wait_s(900) == 0
    wait = await limiter.wait_s(900)
    assert wait == pytest.approx(800 / (5000 / 60), rel=0.05)
    await limiter.give_back(850)
    assert await limiter.wait_s(900) == 0
    assert await limiter.wait_s(5000) > 0, "what exceeds a bucket waits until it is full"
    await limiter.close()


async def test_without_redis_a_process_keeps_to_the_limits_by_itself(limited: Provider, free_port):
    limiter = RateLimiter(limited, f"redis://127.0.0.1:{free_port()}/0", "t:", gate())
    taken = [await limiter.wait_s(10) for _ in range(14)]
    assert taken.count(0) == 10
    await limiter.give_back(5)
    assert await RateLimiter(PROVIDER, "redis://127.0.0.1:1/0", "t:", gate()).wait_s(10**9) == 0, (
        "no limits, nothing asked"
    )
    await limiter.close()


async def test_a_wait_ends_when_it_said(valkey: str):
    limiter = RateLimiter(PROVIDER.model_copy(update={"requests_per_minute": 600}), valkey, "t:", gate())
    while not (wait := await limiter.wait_s(1)):
        pass
    started = time.monotonic()
    await asyncio.sleep(wait)
    assert await limiter.wait_s(1) < 0.02
    assert time.monotonic() - started < 10
    await limiter.close()
