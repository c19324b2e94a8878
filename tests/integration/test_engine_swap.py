"""Two jobs on two bases, one device: the real keeper swaps its engine between them, by turns, and each job is told why it
waits. The engine is the fake one, a real process; trainings, graders and the teacher are pretended."""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator.method.pipeline import meteor
from services.weak_model.engine.control import Control
from services.weak_model.engine.health import is_healthy
from services.weak_model.engine.model_scheduler import ModelScheduler, Rules
from services.weak_model.engine.supervisor import Engine, Patience
from services.weak_model.engine.vllm import Launch, explain
from services.weak_model.worker import completions
from services.weak_model.worker.student_client import StudentClient
from shared.contracts.report import Report
from shared.contracts.rows import StudentPrompt
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, Progress, StepKind, StepRequest, StepResult, StudentParams
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.ports import free_port, wait_until
from tests.fakes.simulated import Simulation, World, questions

TOKEN = "of-the-engine"
BASES = [ModelRef(base=name, base_hash=letter * 64) for name, letter in (("small", "a"), ("large", "b"))]
WORK = {
    StepKind.GUIDE: completions.write_guidelines,
    StepKind.ANSWER: completions.answer,
    StepKind.REASON: completions.reason,
}
# Longer than a caller takes until it asks again, so that it hears of the start.
SLOW_START = "import runpy, time; time.sleep(1.5); runpy.run_module('tests.fakes.engine', run_name='__main__')"
PATIENCE = Patience(start=120, attempts=3, pause=0.05, max_pause=0.2, silence=60, look=0.1, say=5)
RULES = Rules(linger=0.5, turn=5, drain=10)


class Device:
    """One engine that can be asked for either base; each start keeps a log of what it was asked."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.launches: list[str] = []
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        choice = ModelScheduler(BASES[0].base, RULES)

        def launch(model: str) -> Launch:
            self.launches.append(model)
            log = folder / f"{len(self.launches)}.jsonl"
            argv = ["--port", str(port), "--model", model, "--log", str(log)]
            return Launch([sys.executable, "-c", SLOW_START, *argv], dict(os.environ))

        self.engine = Engine(launch, lambda: is_healthy(self.url), lambda: False, explain, PATIENCE, choice)
        self.control = Control("127.0.0.1", free_port(), TOKEN, choice, lambda model: True)
        self.thread = threading.Thread(target=self.engine.run)

    def client(self) -> StudentClient:
        host, port = self.control.server_address[:2]
        return StudentClient(self.url, TOKEN, 60, 30, f"http://{host}:{port}")

    def asked(self) -> list[tuple[str, set[str]]]:
        """Per start of the engine: the base it served, and the names that it was asked for."""
        logs = [self.folder / f"{n}.jsonl" for n in range(1, len(self.launches) + 1)]
        names = [
            {json.loads(line)["model"] for line in log.read_text().splitlines()} if log.exists() else set()
            for log in logs
        ]
        return list(zip(self.launches, names, strict=True))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    made.control.start()
    made.thread.start()
    try:
        wait_until(lambda: is_healthy(made.url), 120, "the first engine")
        yield made
    finally:
        made.control.shutdown()
        made.control.server_close()
        made.engine.stop()
        made.thread.join(30)


class OnDevice(World):
    """Students are asked as the worker asks them; what a step waits for reaches the job as it does from the worker."""

    def __init__(self, device: Device):
        super().__init__(0.5)
        self.device = device
        self.adapters: dict[str, str] = {}  # what was trained -> its base

    async def run(self, job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        if request.kind not in WORK:
            done = await super().run(job, key, request, limit, on_progress)
            if done.trained:
                self.adapters[done.trained] = request.params["model"]["base"]
            return done
        params = StudentParams.model_validate(request.params)
        rows = [StudentPrompt.model_validate(row) for row in request.rows]
        async with self.device.client() as client:
            await client.until_served(params.model.served_by, lambda what: on_progress(Progress(waits_for=what)))
            written, metrics = await WORK[request.kind](client, params, rows, lambda *_, **__: None)
        on_progress(Progress(done=1, total=1))
        return StepResult(rows=[row.model_dump(mode="json") for row in written], metrics=metrics)


async def one_job(simulation: Simulation, world: World, base: ModelRef) -> tuple[Report, set[str]]:
    """A job on a base to its report; and all that its row gave as the reason for waiting."""
    request = simulation.request(
        base.base,
        phases=["distill"],
        guidance="weak",
        pilot={"questions": 4},
        evaluation={"baselines": [], "forgetting": 0},
    )
    simulation.stores.jobs.create(DEFAULT_PROJECT, request.model_copy(update={"model": base.base}))
    row = simulation.stores.jobs.claim("simulation", 3600)
    assert row is not None
    run = simulation.new_run(row, world.run, questions(train=4, dev=2, test=2), base)
    reasons: set[str] = set()
    working = asyncio.create_task(meteor(run.context, run))
    while not working.done():
        await run.note_progress()
        noted = simulation.stores.jobs.get(row.id)
        assert noted is not None
        reasons |= {noted.status_reason} if noted.status_reason else set()
        await asyncio.sleep(0.05)
    await run.note_progress()
    last = simulation.stores.jobs.get(row.id)
    assert last is not None
    assert last.status_reason is None, "it waits for nothing any more"
    return await working, reasons


@pytest.mark.timeout(300)
async def test_two_jobs_on_two_bases_share_one_device_by_turns(device: Device, tmp_path: Path):
    simulation, world = Simulation(tmp_path / "system"), OnDevice(device)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one_job(simulation, world, base)) for base in BASES]
    reports, reasons = zip(*(task.result() for task in tasks), strict=True)
    assert [report.student for report in reports] == ["small", "large"]
    assert all(report.table[1].adapter in world.adapters for report in reports)
    assert set(device.launches) == {"small", "large"}
    assert any("the engine is at work with small and swaps to large afterwards" in reason for reason in reasons[1])
    assert any("the engine loads large" in reason for reason in reasons[1])
    seen: set[str] = set()
    for serving, names in device.asked():
        assert {world.adapters.get(name, name) for name in names} <= {serving}, "another model was asked of this engine"
        seen |= names
    assert seen == {"small", "large", *world.adapters}
