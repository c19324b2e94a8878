"""What a job's row says of why it waits, while an orchestrator holds it. Real orchestration and database."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from shared.contracts.rows import StudentPrompt, asked
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Progress, Sampling, StepKind, StepRequest, StepResult, StudentParams
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.simulated import BASE, Simulation, World, questions

ASKING = StudentParams(model=BASE, domain="d", sampling=Sampling())


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Simulation(tmp_path)


async def test_what_a_step_waits_for_is_told_and_taken_back(simulation: Simulation):
    world = World()
    simulation.stores.jobs.create(DEFAULT_PROJECT, simulation.request())
    row = simulation.stores.jobs.claim("simulation", 3600)
    assert row is not None
    said: list[str | None] = []

    def reason() -> str | None:
        noted = simulation.stores.jobs.get(row.id)
        assert noted is not None
        return noted.status_reason

    async def slow(job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        on_progress(Progress(waits_for="the engine loads tiny, about 40 s"))
        await run.note_progress()
        said.append(reason())
        return await world.run(job, key, request, limit, on_progress)

    run = simulation.new_run(row, slow, questions())
    rows = [StudentPrompt(**asked(question)) for question in questions()[:2]]
    await run.step("distill/guidelines/0", StepKind.GUIDE, ASKING, rows)
    await run.note_progress()
    assert said == ["the engine loads tiny, about 40 s"]
    assert reason() is None


async def test_a_reason_left_by_an_earlier_holder_is_taken_back(simulation: Simulation):
    """The orchestrator that wrote it is gone, and this one's steps wait for nothing."""
    job = simulation.stores.jobs.create(DEFAULT_PROJECT, simulation.request())
    first = simulation.stores.jobs.claim("first", 3600)
    assert first is not None
    simulation.stores.jobs.note(first, status_reason="the engine loads tiny, about 40 s")
    simulation.stores.jobs.release(first)
    second = simulation.stores.jobs.claim("second", 3600)
    assert second is not None
    await simulation.new_run(second, World().run, questions()).note_progress()
    row = simulation.stores.jobs.get(job.id)
    assert row is not None
    assert row.status_reason is None


async def test_a_reason_that_could_not_be_written_is_written_again(simulation: Simulation, monkeypatch):
    simulation.stores.jobs.create(DEFAULT_PROJECT, simulation.request())
    row = simulation.stores.jobs.claim("simulation", 3600)
    assert row is not None
    waiting = asyncio.Event()

    async def waits(job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        on_progress(Progress(waits_for="the engine loads tiny"))
        await waiting.wait()
        return StepResult()

    run = simulation.new_run(row, waits, questions())
    step = asyncio.create_task(run.step("a/0", StepKind.GUIDE, ASKING, []))
    await asyncio.sleep(0)
    note = simulation.stores.jobs.note

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("update", {}, Exception("the database is away"))

    monkeypatch.setattr(simulation.stores.jobs, "note", away)
    with pytest.raises(OperationalError):
        await run.note_progress()
    monkeypatch.setattr(simulation.stores.jobs, "note", note)
    await run.note_progress()
    noted = simulation.stores.jobs.get(row.id)
    assert noted is not None
    assert noted.status_reason == "the engine loads tiny"
    waiting.set()
    await step
