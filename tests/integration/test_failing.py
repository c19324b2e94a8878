"""Jobs that fail: where, why, and what remains; and jobs that wait: their place, and that the large ones leave room."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.api.features.health import service as health
from services.api.features.jobs import forks
from services.api.features.jobs import service as api_jobs
from services.api.features.jobs.queue_place import starts_in
from services.api.features.results import service as results
from services.orchestrator import scheduler
from services.orchestrator.runtime import steps as step_runner
from services.orchestrator.runtime.fair_limit import FairLimit
from shared.contracts.errors import FatalError, MeteorError
from shared.contracts.jobs import ForkRequest
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Progress, Queue, StepKind, StepRequest
from shared.jobs.overview import Waiting
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.system import System

REAL = time.time


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    return System(tmp_path, monkeypatch)


def only(key: str) -> Callable[[str], MeteorError | None]:
    return lambda failing: FatalError("the loss became nan", code="nan_loss") if failing == key else None


async def test_a_failed_job_says_where_and_why_and_its_finished_phases_can_be_used(system: System):
    system.fails = only("evolve/1/train")
    file = system.file()
    async with system.running():
        job = system.post(file)
        await system.until(job, "failed")
        shown_job = api_jobs.lifecycle.get(system.context, job)
        failure = shown_job.distillation.failure
        assert failure is not None
        assert shown_job.error is not None
        assert (failure.phase, failure.step, failure.attempts) == ("evolve", "evolve/1/train", 1)
        assert (failure.cause.code, failure.cause.message) == ("nan_loss", "the loss became nan")
        assert shown_job.error.code == "nan_loss"
        assert failure.usable.phases == ["distill", "iterate"]
        done = [row for row in system.stores.steps.of_job(job) if row.state == "succeeded"]
        assert failure.usable.steps_done == len(done)
        (name,) = failure.usable.models
        for part in ("evolve/1/train", "nan", name, str(len(done))):
            assert part in (shown_job.distillation.status_reason or "")
        (trained,) = (row for row in done if row.key == "iterate/1/train")
        result = system.artifacts.get_json(trained.result_ref)
        assert system.context.model_router.resolve(DEFAULT_PROJECT, name).main.engine_name == result["adapter"]
        assert system.stores.catalog.served(DEFAULT_PROJECT, "expert") is None, (
            "a partial version is not served by itself"
        )
        (step,) = (s for s in results.steps(system.context, job).data if s.key == "evolve/1/train")
        assert step.attempts[0]["error"]["code"] == "nan_loss"
        system.fails = lambda key: None
        request = ForkRequest.model_validate(
            {"from": {"phase": "iterate"}, "changes": {"distillation": {"evolve": {"learning_rate": 1e-5}}}}
        )
        made = forks.fork(system.context, job, request)
        await system.until(made.id, "succeeded")
    assert system.calls(made.id) == 0


async def test_a_job_that_fails_early_has_nothing_to_offer_but_its_steps(system: System):
    system.fails = only("distill/train")
    async with system.running():
        job = system.post(system.file())
        row = await system.until(job, "failed")
    assert row.failure.usable.models == row.failure.usable.phases == []
    assert row.failure.usable.steps_done > 0
    assert system.stores.catalog.models(DEFAULT_PROJECT) == []


async def test_a_large_job_leaves_a_small_one_its_share(system: System):
    """The queues are first in, first out: without the limit the large job's steps would all stand before the small one's."""
    system.slots = dict.fromkeys(Queue, 2)
    system.seconds = lambda request: 0.004
    spec: dict[str, Any] = {"phases": ["distill"], "batch_size": 4}
    large, small = system.file(train=600), system.file(train=8)
    async with system.running():
        first = system.post(large, guidance="none", **spec)
        began = await system.until_ran(first, 20)
        second = system.post(small, seed=1, guidance="none", **spec)
        await system.until(second, "succeeded")
        passed = len(system.ran[first]) - began
        assert system.row(first).status == "running"
        system.stores.jobs.cancel(system.row(first))
        await system.until(first, "cancelled")
    # each of the small job's steps waits for what stands in its queue: four of the large job's steps at most
    assert passed <= 6 * len(system.ran[second]) + 20, (passed, len(system.ran[second]))


async def test_several_orchestrators_and_doubled_messages_do_each_step_once(system: System, monkeypatch):
    send = system.send

    def twice(step_id: str, queue: Queue) -> None:
        send(step_id, queue)
        send(step_id, queue)

    monkeypatch.setattr(step_runner, "send", twice)
    file = system.file()
    async with system.running(orchestrators=3, max_jobs=1):
        posted = [system.post(file, seed=seed, phases=["distill"]) for seed in range(4)]
        posted.append(system.post(file, seed=0, phases=["distill"]))
        for job in posted:
            await system.until(job, "succeeded")
    for job in posted:
        assert len(system.ran[job]) == len(set(system.ran[job]))
        rows = system.stores.steps.of_job(job)
        assert len({row.key for row in rows}) == len(rows)
        assert all(row.attempt <= 1 for row in rows)


async def test_a_waiting_job_has_its_place(system: System):
    file = system.file()
    waiting = [system.post(file, seed=seed) for seed in range(3)]
    queue = [api_jobs.lifecycle.get(system.context, job).distillation.queue for job in waiting]
    assert [place and place.position for place in queue] == [1, 2, 3]
    assert [place and place.starts_in_seconds for place in queue] == [None] * 3, "there is no orchestrator"
    system.stores.jobs.heartbeat("orchestrator@a:1", DEFAULT_PROJECT, "orchestrator", None, 2)
    row = system.stores.jobs.claim("orchestrator@a:1", 60)
    assert row is not None
    system.stores.jobs.note(row, progress={"eta_seconds": 70})
    taken, *others = (api_jobs.lifecycle.get(system.context, job).distillation.queue for job in waiting)
    assert taken is None
    assert [(p.position, p.starts_in_seconds) for p in others if p] == [(1, 0), (2, 70)]


@pytest.mark.parametrize(
    ("waiting", "seconds"),
    [
        (Waiting(0, [], 0), None),
        (Waiting(3, [], 4), 0),
        (Waiting(0, [50, 20], 2), 20),
        (Waiting(1, [50, 20], 2), 50),
        (Waiting(2, [50, 20], 2), None),
        (Waiting(0, [None, 20], 2), None),
    ],
)
def test_when_a_waiting_job_begins(waiting: Waiting, seconds: float | None):
    assert starts_in(waiting) == seconds


async def test_a_lost_process_is_named_and_one_that_said_goodbye_is_not(system: System, monkeypatch):
    beat = system.stores.jobs.heartbeat
    for age, (worker, stopping) in {13: ("lost@a:1", False), 14: ("gone@a:2", True), 1: ("here@a:3", False)}.items():
        with monkeypatch.context() as past:
            past.setattr("shared.jobs.job_store.time.time", lambda age=age: REAL() - age)
            beat(worker, DEFAULT_PROJECT, "trainer", Queue.TRAIN, 1, stopping)
    assert await health.lost(system.context) == ["lost@a:1"]
    beat("lost@a:1", DEFAULT_PROJECT, "trainer", Queue.TRAIN, 1)
    assert await health.lost(system.context) == []


async def test_a_cancel_that_comes_with_a_hint_ends_the_poller(system: System):
    """Else an orchestrator that is told to end in that moment never does."""
    steps = step_runner.StepClient(system.stores, system.artifacts, system.settings)
    polling = asyncio.create_task(steps.poll())
    for _ in range(3):
        await asyncio.sleep(0)
    steps._hints.put_nowait("a step that nobody waits for")
    await asyncio.sleep(0)
    polling.cancel()
    done, _ = await asyncio.wait({polling}, timeout=3)
    polling.cancel()
    assert done


async def test_a_job_that_is_taken_up_again_beside_its_former_run_still_hears_of_its_step(system: System):
    """The same orchestrator may lose a job and claim it once more before the lost run has ended."""
    steps = step_runner.StepClient(system.stores, system.artifacts, system.settings)
    job = system.row(system.post(system.file()))
    row = system.stores.steps.create(job, StepKey.parse("distill/answers/0"), StepKind.TEACH, "a" * 64)
    former, latter = (asyncio.create_task(steps._wait(row, lambda _: None)) for _ in range(2))
    await asyncio.sleep(0)
    former.cancel()
    await asyncio.wait({former})
    claim = system.stores.steps.claim(row.id, "w", 60)
    assert claim is not None
    system.stores.steps.finish(claim, "b" * 64, {})
    polling = asyncio.create_task(steps.poll())
    try:
        assert (await asyncio.wait_for(latter, 10)).state == "succeeded"
    finally:
        polling.cancel()


async def test_a_step_that_waits_for_a_batch_leaves_its_place_in_the_queue(system: System, monkeypatch):
    """With one consumer two steps of a job are sent; the third is sent once one of them waits for its batch."""
    sent: list[str] = []
    third, loop = asyncio.Event(), asyncio.get_running_loop()

    def send(step_id: str, queue: Queue) -> None:
        sent.append(step_id)
        if len(sent) == 3:
            loop.call_soon_threadsafe(third.set)

    monkeypatch.setattr(step_runner, "send", send)
    client = step_runner.StepClient(system.stores, system.artifacts, system.settings)
    row = system.row(system.post(system.file()))
    assert system.stores.jobs.claim("orchestrator@a:1", 60) is not None
    limit = FairLimit(client.consumers)
    requests = [StepRequest(kind=StepKind.TEACH, version=1, params={"batch": n}, rows=[]) for n in range(3)]
    keys = [StepKey.parse(f"distill/answers/{n}") for n in range(3)]
    polling = asyncio.create_task(client.poll())
    running = [
        asyncio.create_task(client.run(row, key, request, limit, lambda _: None))
        for key, request in zip(keys, requests, strict=True)
    ]
    try:
        await asyncio.sleep(2 * step_runner.POLL_S)
        assert len(sent) == 2
        claim = system.stores.steps.claim(sent[0], "w", 60)
        assert claim is not None
        system.stores.steps.renew(claim, 60, Progress(waits_for="the provider's batch", unavailable=True))
        async with asyncio.timeout(20):
            await third.wait()
    finally:
        for task in (polling, *running):
            task.cancel()
        await asyncio.gather(polling, *running, return_exceptions=True)
