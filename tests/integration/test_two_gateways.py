"""Two real gateways on one ledger and one Redis before a paced teacher: one budget, one rate, one call for equal requests, also when they are
killed."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.contracts.distillation import Budget
from shared.ledger.store import open_ledger
from shared.platform.gateway_client import origin_headers
from tests.fakes.gateway import TOKEN, ask, gateway_env
from tests.fakes.ports import free_port, wait_until
from tests.fakes.start import FakeServer, running, start_teacher

LEASE = {"METEOR_LEASE": "PT2S", "METEOR_RENEW": "PT0.5S"}


class Pair:
    """Two gateways that can be killed and started again. more: their environment."""

    def __init__(self, teacher: FakeServer, folder: Path, redis_url: str, **more: str):
        self.teacher, self.stack = teacher, ExitStack()
        self.environments = []
        for _ in range(2):
            own = gateway_env(teacher, str(folder), port := free_port())
            patient = {"METEOR_STRONG_ATTEMPT_TIMEOUT": "PT30S", "METEOR_STRONG_DEADLINE": "PT60S"}
            self.environments.append((port, own | patient | LEASE | {"REDIS_URL": redis_url} | more))
        self.ledger = open_ledger(self.environments[0][1]["DATABASE_URL"])
        self.lives: list[Any] = [None, None]

    def start(self, number: int) -> None:
        port, environment = self.environments[number]
        life = running(["services.strong_model", "gateway"], f"http://127.0.0.1:{port}/healthz", environment)
        self.lives[number] = self.stack.enter_context(life)

    async def restart(self, number: int) -> None:
        self.lives[number].kill()
        self.lives[number].wait(20)
        await asyncio.to_thread(self.start, number)

    async def ask(
        self, client: httpx.AsyncClient, number: int, question: object, job: str = "job-1", model: str = "default"
    ) -> httpx.Response:
        """At one gateway, or when that is gone at the other."""
        headers = origin_headers("p", job, "step-1", "distill") | {"authorization": f"Bearer {TOKEN}"}
        body = {"model": model, "messages": ask(question), "max_tokens": 50, "temperature": 0.0}
        for turn in itertools.count(number):
            url = f"http://127.0.0.1:{self.environments[turn % 2][0]}/v1/chat/completions"
            try:
                return await client.post(url, json=body, headers=headers)
            except httpx.TransportError:
                await asyncio.sleep(0.2)
        raise AssertionError

    async def ask_all(self, questions: list[object], **about: str) -> list[httpx.Response]:
        """Half of them at each."""
        async with httpx.AsyncClient(timeout=90, trust_env=False, limits=httpx.Limits(max_connections=None)) as client:
            asked = (self.ask(client, number, question, **about) for number, question in enumerate(questions))
            return await asyncio.gather(*asked)


@pytest.fixture(scope="module")
def teacher() -> Iterator[FakeServer]:
    with start_teacher() as server:
        yield server


@pytest.fixture(scope="module")
def pair(teacher: FakeServer, _valkey_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    more = {"METEOR_STRONG_CONCURRENCY": "4", "METEOR_KEY_PREFIX": "two:"}
    more |= {"METEOR_JUDGE_BASE_URL": teacher.base_url, "METEOR_JUDGE_REQUESTS_PER_MINUTE": "60"}
    both = Pair(teacher, tmp_path_factory.mktemp("two"), _valkey_server, **more)
    with both.stack:
        both.start(0)
        both.start(1)
        yield both


@pytest.fixture(autouse=True)
def _healed(teacher: FakeServer) -> Iterator[None]:
    teacher.heal()
    yield
    teacher.heal()


def arrived(teacher: FakeServer, word: str) -> list[dict[str, Any]]:
    return [entry for entry in teacher.log() if word in str(entry)]


async def test_equal_requests_at_both_are_paid_once(pair: Pair):
    pair.teacher.latency(0.5)
    before = len(pair.teacher.log())
    answers = await pair.ask_all(["equal"] * 6)
    assert [answer.status_code for answer in answers] == [200] * 6
    assert len({answer.json()["choices"][0]["message"]["content"] for answer in answers}) == 1
    assert len(pair.teacher.log()) == before + 1


async def test_no_more_calls_at_once_than_the_provider_bears(pair: Pair):
    pair.teacher.set(latency_s=0.15, bears=4)
    before = len(pair.teacher.log())
    answers = await pair.ask_all([f"at once {n}" for n in range(24)])
    assert Counter(answer.status_code for answer in answers) == {200: 24}
    outcomes = Counter(entry["outcome"] for entry in pair.teacher.log()[before:])
    assert outcomes["429"] == 0, "the provider never saw a fifth call"


async def test_a_budget_is_one_for_both(pair: Pair):
    pair.ledger.set_budget("job-b", Budget(max_calls=7))
    before = len(pair.teacher.log())
    answers = await pair.ask_all([f"budget {n}" for n in range(20)], job="job-b")
    assert Counter(answer.status_code for answer in answers) == {200: 7, 402: 13}
    assert len(pair.teacher.log()) == before + 7


async def test_a_pause_is_kept_by_both(pair: Pair):
    pair.teacher.fault("429", times=1, retry_after=2)
    before, began = len(pair.teacher.log()), time.monotonic()
    answers = await pair.ask_all([f"pause {n}" for n in range(2)])
    assert [answer.status_code for answer in answers] == [200, 200]
    await pair.ask_all([f"pause {n}" for n in range(2, 6)])
    assert time.monotonic() - began >= 1.9
    assert len(pair.teacher.log()) <= before + 8


async def test_a_cancelled_step_is_cancelled_in_both(pair: Pair):
    pair.teacher.latency(20)
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        asking = [asyncio.ensure_future(pair.ask(client, n, f"cancel {n}")) for n in range(2)]
        await asyncio.to_thread(wait_until, lambda: sum(row.state == "intent" for row in rows(pair)) == 2)
        url = f"http://127.0.0.1:{pair.environments[0][0]}/internal/cancel"
        await client.post(url, json={"step_id": "step-1"}, headers={"authorization": f"Bearer {TOKEN}"})
        done, _ = await asyncio.wait(asking, timeout=10)
    assert len(done) == 2


def rows(pair: Pair) -> list[Any]:
    from sqlalchemy import select

    from shared.db.engine import reading
    from shared.ledger.tables import calls

    with reading(pair.ledger.engine) as connection:
        return list(connection.execute(select(calls)))


async def test_a_rate_is_one_for_both(pair: Pair):
    """60 a minute: ten at once, and not one a second from then on."""
    before, began = len(pair.teacher.log()), time.monotonic()
    asking = asyncio.ensure_future(pair.ask_all([f"rate {n}" for n in range(40)], model="judge"))
    await asyncio.to_thread(wait_until, lambda: len(pair.teacher.log()) >= before + 13)
    sent, seconds = len(pair.teacher.log()) - before, time.monotonic() - began
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert sent <= 10 + 50 / 60 * seconds + 1


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.drill)])
async def test_killed_gateways_overspend_nothing_and_block_nothing(pair: Pair, kills: int, teacher: FakeServer):
    """Every question is answered; each request that was sent is in the ledger; only what a kill lost is sent again; the budget holds."""
    dice = random.Random(kills)
    job, questions = f"job-k{kills}", [f"kill {kills} {n}" for n in range(20 * kills)]
    most = 2 * len(questions)
    pair.ledger.set_budget(job, Budget(max_calls=most))
    teacher.latency(0.2)
    before = len(teacher.log())
    asking = asyncio.ensure_future(pair.ask_all([*questions, *questions[::2]], job=job))
    for _ in range(kills):
        await asyncio.sleep(dice.uniform(0.2, 0.8))
        await pair.restart(dice.randrange(2))
    answers = await asyncio.wait_for(asking, 120)
    assert Counter(answer.status_code for answer in answers) == {200: len(answers)}
    mine = [row for row in rows(pair) if row.job_id == job and not row.cached]
    sent = [entry["request_id"] for entry in teacher.log()[before:]]
    assert {*sent} <= {row.id for row in mine}, "nothing is sent that the ledger does not know"
    lost = [row for row in mine if row.state == "unknown"]
    assert len(mine) - len(lost) <= len(questions), "an equal request is paid again only if a kill lost its answer"
    assert not [row for row in mine if row.state == "intent"]
    account = pair.ledger.account(job)
    assert account is not None
    assert account.held_calls == 0, "no reservation is left"
    assert account.calls == len(mine) <= most
