"""OpenAI's own request from its post to its end: a whole system without a teacher, and the same job from what was read back."""

from pathlib import Path
from typing import Any

import pytest

from services.api.features.jobs import service as jobs
from services.api.features.results import service as results
from services.api.paging import Paging
from services.orchestrator import scheduler
from services.orchestrator.runtime import run
from shared.contracts.fine_tuning import FineTuningRequest
from shared.contracts.jobs import JobRequest
from shared.contracts.steps import StepKind, StepRequest
from tests.fakes.simulated import BASE, questions
from tests.fakes.store_moves import processed_file
from tests.fakes.system import System


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    return System(tmp_path, monkeypatch)


async def test_plain_training_asks_nobody_and_is_taken_over_by_the_same_job(system: System):
    system.world.training = lambda request: {"trained_tokens": 10 * len(request.rows), "steps": 15}
    request = FineTuningRequest(model=BASE.base, training_file=system.file())
    async with system.running():
        job = request.job()
        first = jobs.create(system.context, job).id
        await system.until(first, "succeeded")
        read = jobs.lifecycle.get(system.context, first)
        again = jobs.create(system.context, JobRequest.model_validate(read.model_dump(mode="json"))).id
        await system.until(again, "succeeded")
    assert system.calls(first) == 0
    assert not [key for key in system.ran[first] if key.startswith(("pilot/", "iterate/", "evolve/"))]
    assert "distill/train" in system.ran[first]
    assert system.ran[again] == []
    ended = [event.message for event in system.stores.jobs.events(again)][-1]
    assert ended.endswith(f"; all its steps were taken over from job {first}"), (
        "else it looks as if nothing had been trained"
    )
    assert {step.taken_over_from for step in results.steps(system.context, again).data} == {first}
    assert read.method is not None
    assert read.fine_tuned_model == "expert@1"
    page = results.checkpoints(system.context, first, Paging())
    (checkpoint,), more = page.data, page.has_more
    assert (checkpoint.fine_tuned_model_checkpoint, checkpoint.step, more) == ("expert@1", "distill/train", False)
    assert checkpoint.step_number == 15
    figures = results.metrics(system.context, first, Paging(limit=100)).data
    (training,) = (step for step in figures if step.step == "distill/train")
    assert training.values["steps"] == 15
    assert read.trained_tokens == 10 * 40  # of every row of the train split


async def test_training_on_preferences_takes_the_pairs_of_the_file(system: System):
    rows = [
        row.model_copy(update={"rejected": "nonsense" if n % 4 else row.reference})
        for n, row in enumerate(questions(train=40, dev=20, test=20))
    ]
    file = processed_file(system.stores, system.artifacts, rows)
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 2, "beta": 0.7}}}
    request = FineTuningRequest(model=BASE.base, training_file=file, method=method)
    async with system.running():
        job = jobs.create(system.context, request.job())
        await system.until(job.id, "succeeded")
    assert system.calls(job.id) == 0
    assert not [key for key in system.ran[job.id] if key.startswith(("pilot/", "distill/", "evolve/1/search"))]
    (trained,) = [row for row in system.stores.steps.of_job(job.id) if row.key == "evolve/1/train"]
    asked = StepRequest.model_validate(system.artifacts.get_json(trained.input_hash))
    assert (asked.kind, asked.params["beta"], asked.params["epochs"]) == (StepKind.DPO, 0.7, 2)
    references = {row.id: row.reference for row in rows}
    assert len(asked.rows) == 30
    assert all(row["rejected"] == "nonsense" and row["chosen"] == references[row["id"]] for row in asked.rows)
    (turn,) = results.report(system.context, job.id)["phases"]["evolve"]["turns"]
    assert (turn["strategy"], turn["pairs"], turn["dropped"]) == ("file", 30, {"identical": 10})


async def test_a_long_step_says_that_it_is_at_work(system: System, monkeypatch: pytest.MonkeyPatch):
    assert run.HEARTBEAT_S <= 60
    monkeypatch.setattr(run, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(scheduler, "NOTE_S", 0.05)
    system.seconds = lambda request: 3.0 if request.kind is StepKind.SFT else 0.0
    async with system.running():
        job = jobs.create(system.context, FineTuningRequest(model=BASE.base, training_file=system.file()).job()).id
        await system.until(job, "succeeded")
    told = [event for event in system.stores.jobs.events(job) if event.type == "progress"]
    at_work = [event for event in told if event.message.startswith("at work: distill/train: ")]
    assert len(at_work) >= 3
    assert all(event.data and 0 <= event.data["percent"] <= 100 for event in at_work)
