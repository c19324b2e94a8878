"""Budgets: calls at once never exceed one together, a job waits for a larger one, and nothing is paid twice."""

import asyncio
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.orchestrator import scheduler
from services.orchestrator.runtime.steps import StepFailed
from services.strong_model.settings import strong_settings
from services.strong_model.worker.tasks import HANDLERS
from shared.contracts.distillation import Budget
from shared.contracts.errors import BudgetExceeded
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind, StepRequest, StepResult, canonical, content_hash
from shared.jobs.tables import DEFAULT_PROJECT
from shared.ledger.accounts import Amount, Limits, RoomHeld
from shared.ledger.store import CallOrigin, Cost, Ledger, open_ledger
from shared.platform.settings import platform_settings
from shared.queue.step_task import StepRunner
from tests.fakes.gateway import PATIENT, TOKEN, Gateway, ask, running_gateway
from tests.fakes.ports import wait_until
from tests.fakes.simulated import BASE
from tests.fakes.start import start_teacher
from tests.integration.test_pausing_jobs import Pretended, System

JOB = CallOrigin("p", "j")
MOST, COST = Amount(0.03, 300), Cost(40, 10, 0.01)
MOST_USD = 0.021


@pytest.fixture
def ledger(database_url: str) -> Ledger:
    return open_ledger(database_url)


def begin(ledger: Ledger, most: Amount = MOST, origin: CallOrigin = JOB) -> str:
    return ledger.begin(origin, "default", "m", "h", most)


@pytest.mark.parametrize("budget", [Budget(max_usd=1.0), Budget(max_tokens=5_000), Budget(max_calls=100)])
def test_callers_at_once_never_exceed_a_budget(ledger: Ledger, budget: Budget):
    ledger.set_budget("j", budget)

    def spend() -> int:
        made = 0
        while True:
            try:
                call = begin(ledger)
            except RoomHeld:
                continue
            except BudgetExceeded:
                return made
            ledger.settle(call, "ok", COST)
            made += 1

    with ThreadPoolExecutor(8) as pool:
        made = sum(pool.map(lambda _: spend(), range(8)))
    account = ledger.account("j")
    assert account is not None
    assert (account.calls, account.tokens, account.usd) == (made, 50 * made, pytest.approx(0.01 * made))
    assert (account.held_calls, account.held_tokens, account.held_usd) == (0, 0, pytest.approx(0))
    for spent, limit, one in (
        (account.usd, budget.max_usd, MOST.usd),
        (account.tokens, budget.max_tokens, MOST.tokens),
        (account.calls, budget.max_calls, 1),
    ):
        if limit is not None:
            assert limit - one < spent <= limit + 1e-12


def test_what_nobody_knows_the_price_of_counts_as_spent(ledger: Ledger):
    ledger.set_budget("j", Budget(max_usd=0.1))
    lost, timed_out, refused = (begin(ledger) for _ in range(3))
    with pytest.raises(RoomHeld):
        begin(ledger)  # 0.09 are held, and any of the three may cost less
    ledger.settle(timed_out, "timeout", None)
    ledger.settle(refused, "http_500", Cost())
    assert ledger.mark_unknown() == 1
    assert ledger.usage("j").usd_reserved == pytest.approx(0.06)
    assert ledger.usage("j").usd_spent == 0
    account = ledger.account("j")
    assert account is not None
    assert (account.usd, account.calls, account.held_usd) == (pytest.approx(0.06), 2, pytest.approx(0))
    ledger.settle(begin(ledger), "ok", COST)
    with pytest.raises(BudgetExceeded, match=r"0.07 USD of 0.1 USD are spent.*up to 0.05 USD"):
        begin(ledger, Amount(0.05, 1))
    ledger.settle(lost, "ok", COST)  # its answer came after all
    account = ledger.account("j")
    assert account is not None
    assert (account.usd, account.calls) == (pytest.approx(0.05), 3)


def test_an_account_that_is_opened_late_holds_what_was_spent_before(ledger: Ledger):
    ledger.settle(begin(ledger), "ok", COST)
    ledger.settle(begin(ledger), "http_429", Cost())
    ledger.settle(begin(ledger), "timeout", None)
    ledger.note_cached(JOB, "default", "m", "h", 0.01)
    on_its_way = begin(ledger)
    ledger.set_budget("j", Budget(max_calls=3), change=False)
    ledger.set_budget("j", Budget(), change=False)
    account = ledger.account("j")
    assert account is not None
    assert (account.usd, account.tokens, account.calls) == (pytest.approx(0.04), 350, 2)
    assert (account.held_usd, account.held_tokens, account.held_calls) == (pytest.approx(0.03), 300, 1)
    assert account.max_calls == 3
    with pytest.raises(RoomHeld):
        begin(ledger)
    ledger.settle(on_its_way, "ok", COST)
    with pytest.raises(BudgetExceeded):
        begin(ledger)
    ledger.set_budget("j", Budget(max_calls=4))
    begin(ledger)


def test_a_project_has_a_budget_per_month(database_url: str):
    plain = open_ledger(database_url)
    plain.settle(begin(plain, origin=CallOrigin("p")), "ok", COST)
    limited = open_ledger(database_url, Limits(usd=0.05))
    limited.settle(begin(limited), "ok", COST)
    with pytest.raises(BudgetExceeded, match="METEOR_STRONG_PROJECT_USD") as refused:
        begin(limited, Amount(0.04, 1))
    assert refused.value.job_id is None
    begin(limited, Amount(0.04, 1), CallOrigin("another"))
    begin(plain)
    limited.mark_unknown()  # a new start
    with pytest.raises(BudgetExceeded, match=r"0.05 USD of 0.05 USD"):
        begin(limited)


# jobs


class Taught(Pretended):
    """The teacher's steps go the real way: claimed and run by the worker's own code, through the gateway. All others are
    pretended."""

    def __init__(self, system: System):
        super().__init__(system.simulation, system.world)
        self.runner = StepRunner("strong_model", HANDLERS)
        self.threads = ThreadPoolExecutor(4)

    async def run(self, job: Any, key: StepKey, request: StepRequest, *rest: Any) -> StepResult:
        if request.kind is not StepKind.TEACH:
            return await super().run(job, key, request, *rest)
        body = canonical(request.model_dump(mode="json"))
        self.artifacts.put(body)
        row = self.stores.steps.create(job, key, request.kind, content_hash(request.model_dump(mode="json")))
        while row.state not in ("succeeded", "failed"):
            await asyncio.get_running_loop().run_in_executor(self.threads, self.runner.run, row.id)
            await asyncio.sleep(0.02)
            row = self.stores.steps.get(row.id)
            assert row is not None
        if row.state == "failed":
            assert row.error is not None
            raise StepFailed(str(key), row.error)
        return StepResult.model_validate(self.artifacts.get_json(row.result_ref))


@contextmanager
def priced_gateway(folder: Path) -> Generator[Gateway]:
    """32 calls at once. A call costs 0.008 USD and some, and MOST_USD at most, so that 32 can be reserved of one USD."""
    prices = {"METEOR_TEACHER_PRICE_INPUT": "4", "METEOR_TEACHER_PRICE_OUTPUT": "4000"}
    with (
        start_teacher("--latency", "0.4") as teacher,
        running_gateway(teacher, folder, METEOR_STRONG_CONCURRENCY="32", **prices, **PATIENT) as started,
    ):
        yield started


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """On the data of a system: its ledger is the jobs'."""
    with priced_gateway(tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for the tests without a system; each has jobs and questions of its own."""
    with priced_gateway(tmp_path_factory.mktemp("priced")) as started:
        yield started


@pytest.fixture
def system(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    for name, value in (
        ("METEOR_STUDENT_MODEL", BASE.base),
        ("METEOR_DATA", str(tmp_path)),
        ("METEOR_INTERNAL_TOKEN", TOKEN),
        ("METEOR_STRONG_GATEWAY_URL", gateway.url),
    ):
        monkeypatch.setenv(name, value)
    caches: list[Callable[[], None]] = [platform_settings.cache_clear, strong_settings.cache_clear]
    for clear in caches:
        clear()
    made = System(tmp_path)
    made.steps = Taught(made)
    yield made
    for clear in caches:
        clear()


def most_at_once(rows: list) -> int:
    moves = sorted([(row.created_at, 1) for row in rows] + [(row.settled_at, -1) for row in rows])
    open_, most = 0, 0
    for _, change in moves:
        open_ += change
        most = max(most, open_)
    return most


async def test_a_budget_stops_the_job_and_a_raise_finishes_it_without_a_repeated_call(system: System, gateway: Gateway):
    job = system.post(batch_size=16, train=200, phases=["distill"], teacher={"max_tokens": 4}, budget={"max_usd": 1.0})
    async with system.orchestrator():
        paused = await system.until(job, "paused", "succeeded", within_s=90)
        assert paused.status == "paused"
        assert paused.status_reason.startswith("budget_exceeded: ")
        wait_until(lambda: all(row.state == "settled" for row in gateway.rows()), 60)
        spent = system.simulation.ledger.usage(job.id)
        assert spent.usd_reserved == 0
        assert 1.0 - MOST_USD < spent.usd_spent <= 1.0
        stopped_at = len(gateway.teacher.log())
        assert most_at_once(gateway.rows()) == 32
        await asyncio.sleep(0.2)
        assert len(gateway.teacher.log()) == stopped_at
        system.simulation.ledger.set_budget(job.id, Budget(max_usd=2))
        system.jobs.change(job, Budget(max_usd=2), None)
        await system.until(job, "succeeded", within_s=90)
    asked = Counter(str(entry["messages"]) for entry in gateway.teacher.log())
    assert stopped_at > 100
    assert len(asked) > stopped_at
    assert set(asked.values()) == {1}, "a call was repeated"
    whole = system.simulation.ledger.usage(job.id)
    assert whole.teacher_calls == len(asked)
    assert whole.cached_calls > 0
    assert whole.usd_saved_by_cache > 0
    assert "job paused: budget_exceeded" in " ".join(system.messages(job))


def status(system: System, job: Any) -> str | None:
    row = system.jobs.get(job.id)
    return None if row is None else row.status


async def test_a_job_that_is_not_to_wait_fails_of_its_budget(system: System):
    job = system.post(batch_size=16, teacher={"max_tokens": 16}, budget={"max_calls": 5, "on_exceed": "fail"})
    async with system.orchestrator():
        await asyncio.to_thread(wait_until, lambda: status(system, job) == "failed", 60)
    row = system.jobs.get(job.id)
    assert row is not None
    assert row.error is not None
    assert row.error.code == "budget_exceeded"
    assert "5 calls of 5 calls are spent" in row.error.message
    assert system.simulation.ledger.usage(job.id).teacher_calls == 5


async def test_a_job_waits_for_its_projects_day_and_goes_on_when_that_is_raised(system: System, gateway: Gateway):
    ledger = system.simulation.ledger
    ledger.set_standing_limits(DEFAULT_PROJECT, Limits(usd=0.2))
    job = system.post(batch_size=16, train=60, phases=["distill"], teacher={"max_tokens": 4})
    async with system.orchestrator():
        paused = await system.until(job, "paused", "succeeded", "failed", within_s=60)
        assert paused.status == "paused"
        assert paused.status_reason.startswith("budget_exceeded: the project's limit of this day (UTC)")
        wait_until(lambda: all(row.state == "settled" for row in gateway.rows()), 60)
        assert 0.2 - MOST_USD < ledger.usage(job.id).usd_spent <= 0.2
        ledger.set_standing_limits(DEFAULT_PROJECT, Limits(usd=None))
        system.jobs.resume(paused)
        await system.until(job, "succeeded", within_s=60)
    asked = Counter(str(entry["messages"]) for entry in gateway.teacher.log())
    assert set(asked.values()) == {1}, "a call was repeated"


async def test_who_joins_a_call_that_another_job_cannot_pay_for_makes_its_own(shared_gateway: Gateway):
    shared_gateway.ledger.set_budget("poor", Budget(max_calls=1))
    shared_gateway.teacher.latency(0.5)
    before = len(shared_gateway.teacher.log())
    async with shared_gateway.client(job="poor") as poor, shared_gateway.client(job="rich") as rich:

        async def chat(client: Any, number: int) -> Any:
            return await client.chat(model="default", messages=ask(number), max_tokens=5)

        first = asyncio.create_task(chat(poor, 1))
        await asyncio.to_thread(wait_until, lambda: len(shared_gateway.teacher.log()) == before + 1, 10)
        waits = asyncio.create_task(chat(poor, 2))
        await asyncio.sleep(0.1)
        joins = asyncio.create_task(chat(rich, 2))
        assert (await first).text
        with pytest.raises(BudgetExceeded):
            await waits
        assert (await joins).text
    made = Counter(row.job_id for row in shared_gateway.rows())
    assert (made["poor"], made["rich"]) == (1, 1)


async def test_an_answer_without_a_count_costs_what_was_reserved(shared_gateway: Gateway):
    shared_gateway.ledger.set_budget("uncounted", Budget())
    shared_gateway.teacher.fault("refusal", times=1)  # an answer without `usage`
    async with shared_gateway.client(job="uncounted") as client:
        reply = await client.chat(model="default", messages=ask("uncounted"), max_tokens=5)
    assert reply.input_tokens == 0
    row = shared_gateway.row(reply.call_id)
    assert row.reserved_usd > 0.02
    account = shared_gateway.ledger.account("uncounted")
    assert account is not None
    assert (account.usd, account.calls) == (pytest.approx(row.reserved_usd), 1)


async def test_the_gateway_says_what_is_spent(shared_gateway: Gateway):
    shared_gateway.ledger.set_budget("spent", Budget(max_tokens=10))
    body = {"model": "default", "messages": ask("spent"), "max_tokens": 5}
    headers = {"authorization": f"Bearer {TOKEN}", "x-meteor-project": "p", "x-meteor-job": "spent"}
    answer = await asyncio.to_thread(
        httpx.post, f"{shared_gateway.url}/v1/chat/completions", json=body, headers=headers
    )
    assert answer.status_code == 402
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "budget_exceeded")
    assert "distillation.budget.max_tokens" in error["message"]
    assert not [row for row in shared_gateway.rows() if row.job_id == "spent"]
