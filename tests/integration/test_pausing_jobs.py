"""The orchestrator's own loop over pretended workers: jobs that pause after a stage or when they are asked to, and go on."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator import scheduler
from services.orchestrator.scheduler import Orchestrator
from services.orchestrator.settings import OrchestratorSettings
from shared.contracts.estimate import Estimate, Price
from shared.contracts.jobs import JobRequest, JobStatus
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind, StepRequest, StepResult
from shared.jobs.tables import DEFAULT_PROJECT
from shared.ledger.store import CallOrigin, Cost
from tests.fakes.simulated import BASE, Simulation, World, questions
from tests.fakes.store_moves import processed_file

PHASES = ["distill", "iterate", "evolve"]
STAGES = ["pilot", *PHASES]


class Pretended:
    """In place of a StepClient. holds: keys whose steps do not end by themselves."""

    def __init__(self, simulation: Simulation, world: World):
        self.stores, self.artifacts, self.settings = simulation.stores, simulation.artifacts, simulation.settings
        self.world = world
        self.holds: Callable[[str], bool] = lambda key: False
        self.held = asyncio.Event()

    async def run(self, job: Any, key: StepKey, request: StepRequest, *rest: Any) -> StepResult:
        if self.holds(str(key)):
            self.held.set()
            await asyncio.Event().wait()
        return await self.world.run(job, key, request, *rest)

    async def consumers(self, queue: Any) -> int:
        return 8

    async def listen(self) -> None:
        await asyncio.Event().wait()

    poll = listen


class System:
    def __init__(self, folder: Path):
        self.simulation = Simulation(folder)
        self.world = World(0.3, train=lambda request, before: 0.9)
        self.steps = Pretended(self.simulation, self.world)
        self.jobs = self.simulation.stores.jobs

    @asynccontextmanager
    async def orchestrator(self) -> AsyncGenerator[Orchestrator]:
        made = Orchestrator(
            self.simulation.stores,
            self.simulation.ledger,
            self.simulation.settings,
            OrchestratorSettings(),
        )
        steps: Any = self.steps
        made.steps = steps
        running = asyncio.create_task(made.run_forever())
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await made.drain()

    def post(self, train: int = 40, **spec: Any) -> Any:
        rows = questions(train=train, dev=20, test=20)
        file = processed_file(self.simulation.stores, self.simulation.artifacts, rows)
        distillation = {"domain": "d", "primary_metric": "string_check", "guidance": "weak"} | spec
        request = JobRequest.model_validate({"model": BASE.base, "training_file": file, "distillation": distillation})
        return self.jobs.create(DEFAULT_PROJECT, request, {"default": Price(1.0, 2.0)})

    async def until(self, job: Any, *statuses: str, within_s: float = 60) -> Any:
        async with asyncio.timeout(within_s):
            while True:
                row = self.jobs.get(job.id)
                assert row is not None
                if row.status in statuses:
                    return row
                assert row.status != "failed", row.error
                await asyncio.sleep(0.02)

    def messages(self, job: Any) -> list[str]:
        return [event.message for event in self.jobs.events(job.id, limit=500)]


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    monkeypatch.setenv("METEOR_STUDENT_MODEL", BASE.base)
    return System(tmp_path)


@pytest.mark.parametrize("stage", STAGES)
async def test_a_job_pauses_after_its_stage_once_and_then_ends_as_any_other(system: System, stage: str):
    job = system.post(pause_after=stage)
    async with system.orchestrator():
        paused = await system.until(job, "paused", "succeeded")
        assert paused.status == "paused"
        assert f"waits after {stage}" in paused.status_reason
        assert "resume" in paused.status_reason
        begun = [message for message in system.messages(job) if message.startswith("phase ")]
        assert begun == [f"phase {name} begins" for name in STAGES[: STAGES.index(stage) + 1]]
        await asyncio.sleep(0.1)
        assert system.jobs.get(job.id) == paused, "somebody took it"
        system.jobs.resume(paused)
        ended = await system.until(job, "succeeded", "paused")
    assert ended.status == "succeeded"
    assert sum(message.startswith("job paused") for message in system.messages(job)) == 1
    assert system.messages(job).count("job resumed and queued") == 1


async def test_a_paused_job_outlives_its_orchestrator(system: System):
    job = system.post(pause_after="distill")
    async with system.orchestrator():
        paused = await system.until(job, "paused")
    async with system.orchestrator():
        await asyncio.sleep(0.1)
        assert system.jobs.get(job.id) == paused
        system.jobs.resume(paused)
        await system.until(job, "succeeded")


@pytest.mark.parametrize("then", ["resume", "cancel"])
async def test_a_running_job_pauses_within_a_look_and_goes_on_where_it_was(system: System, then: str):
    job = system.post(pause_after="distill")
    system.steps.holds = lambda key: key == "distill/train"
    async with system.orchestrator():
        await asyncio.wait_for(system.steps.held.wait(), 20)
        assert system.jobs.pause(job).status == JobStatus.PAUSING
        paused = await system.until(job, "paused")
        assert "by request" in paused.status_reason
        assert paused.lease_owner is None
        if then == "cancel":
            assert system.jobs.cancel(job).status == JobStatus.CANCELLED
            return
        system.steps.holds = lambda key: False
        system.jobs.resume(job)
        again = await system.until(job, "paused", "succeeded")
        assert "waits after distill" in again.status_reason, "the pause by request does not stand for the other one"
        system.jobs.resume(job)
        await system.until(job, "succeeded")


async def test_a_cancel_while_the_job_pauses_ends_it(system: System, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scheduler, "GIVE_BACK_S", 1.0)
    job = system.post()
    system.steps.holds = lambda key: key == "distill/train"
    async with system.orchestrator():
        await asyncio.wait_for(system.steps.held.wait(), 20)
        slow = system.simulation.stores.steps.create(job, StepKey.parse("slow"), StepKind.TEACH, "a" * 64)
        assert system.simulation.stores.steps.claim(slow.id, "w", 60) is not None
        system.jobs.pause(job)
        await asyncio.sleep(0.2)
        assert system.jobs.cancel(job).status == JobStatus.CANCELLING
        await system.until(job, "cancelled")
    row = system.simulation.stores.steps.get(slow.id)
    assert row is not None
    assert row.state == "cancelled"


async def test_a_worker_that_does_not_give_its_step_back_is_not_waited_for(system: System, monkeypatch):
    monkeypatch.setattr(scheduler, "GIVE_BACK_S", 0.2)
    job = system.post()
    system.steps.holds = lambda key: key == "distill/train"
    stores = system.simulation.stores
    async with system.orchestrator():
        await asyncio.wait_for(system.steps.held.wait(), 20)
        claim = stores.steps.claim(
            stores.steps.create(job, StepKey.parse("slow"), StepKind.TEACH, "a" * 64).id, "w", 60
        )
        assert claim is not None
        system.jobs.pause(job)
        await system.until(job, "paused")
    assert not stores.steps.finish(claim, "f" * 64, {})


async def test_after_the_pilot_the_estimate_stands_in_job_event_and_report(system: System):
    ledger, figures = system.simulation.ledger, {"input_tokens": 0, "output_tokens": 0}
    job = system.post(pause_after="pilot", teacher={"max_tokens": 40})

    async def run(job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        result = await World.run(system.world, job, key, request, limit, on_progress)
        if request.kind == "strong.teach":
            figures["input_tokens"], figures["output_tokens"] = 100 * len(request.rows), 10 * len(request.rows)
            for _ in request.rows:
                call = ledger.begin(CallOrigin(DEFAULT_PROJECT, job.id, phase="pilot"), "default", "m", str(key))
                ledger.settle(call, "ok", Cost(100, 10, 120 / 1e6))
            result.metrics |= figures
        return result

    system.world.run = run
    async with system.orchestrator():
        paused = await system.until(job, "paused")
        estimate = Estimate.model_validate(paused.estimate)
        assert estimate.basis == "pilot"
        assert estimate.prices == {"default": (1.0, 2.0, 0.5)}
        pilot = estimate.phases["pilot"]
        assert (pilot.calls.low, pilot.calls.high, pilot.input_tokens.low) == (16, 16, 1600)
        assert pilot.usd is not None
        assert pilot.usd.low == pilot.usd.high == pytest.approx(16 * 120 / 1e6)
        distill = estimate.phases["distill"]
        assert (distill.calls.low, distill.calls.high) == (4, 20)
        per_call = distill.input_tokens.high / distill.calls.high
        assert per_call == pytest.approx(100, rel=0.02)
        assert 10 * 0.9 < distill.output_tokens.high / distill.calls.high < 10 * 1.1
        assert "USD" in paused.status_reason
        (event,) = (e for e in system.jobs.events(job.id, limit=100) if "estimated by the pilot" in e.message)
        assert event.data is not None
        assert Estimate.model_validate(event.data["estimate"]) == paused.estimate
        system.jobs.resume(job)
        ended = await system.until(job, "succeeded")
    report = system.simulation.artifacts.get_json(ended.report_ref)
    assert report["phases"]["pilot"]["estimate"]["basis"] == "pilot"
