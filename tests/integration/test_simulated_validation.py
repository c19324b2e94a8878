"""A whole job with a file of its own for validation: what each split's steps were given."""

import time
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator import scheduler
from shared.contracts.data import Question, Split
from shared.contracts.steps import StepKind
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.simulated import questions
from tests.fakes.store_moves import processed_file
from tests.fakes.system import System

LONG = "How do I copy a whole directory with all of its files to another machine without losing their times"


def ids(system: System, job: str, prefix: str) -> set[str]:
    steps = [step for step in system.stores.steps.of_job(job) if step.key.startswith(prefix)]
    return {row["id"] for step in steps for row in system.artifacts.get_json(step.input_hash)["rows"]}


async def test_decisions_are_made_on_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    system = System(tmp_path, monkeypatch)
    rows = questions(train=40, dev=20, test=20)
    long = Question(id="long", question=f"{LONG}?", reference="right long", split=Split.TRAIN)
    training = processed_file(system.stores, system.artifacts, [*rows, long])
    validation = processed_file(
        system.stores,
        system.artifacts,
        [row.model_copy(update={"question": f"other {row.question}"}) for row in questions(train=0, dev=11, test=0)]
        + [Question(id="twin", question=f"{LONG}, please?", reference="right twin", split=Split.DEV)],
    )
    spec: dict[str, Any] = {"phases": ["distill"], "guidance": "none"}
    async with system.running():
        job = system.post(training, validation=validation, **spec)
        await system.until(job, "succeeded")
    own = {row.id: row.split for row in [*rows, long]}
    dev, test = ids(system, job, "evaluate/dev/"), ids(system, job, "evaluate/test/")
    assert len(dev) == 12
    assert all(name.startswith("validation-") for name in dev)
    assert {own.get(name) for name in test} == {Split.TEST}
    learned = {
        row["id"]
        for step in system.stores.steps.of_job(job)
        if step.kind == StepKind.SFT
        for row in system.artifacts.get_json(step.input_hash)["rows"]
    }
    assert {own[name] for name in learned} == {Split.TRAIN, Split.DEV}
    done = system.stores.jobs.get(job)
    assert done is not None
    used = system.artifacts.get_json(done.report_ref)["data"]["files"]
    assert [(one["field"], one["file"], one["version"]) for one in used] == [
        ("training_file", training, 1), ("validation_file", validation, 1),
    ]  # fmt: skip
    told = [one["left"] for one in used]
    assert told == [{}, {"reference": 11, "near": 1}], "the twin is told, though its words are not the same"
    report = system.report(job)
    assert any("nearly the same question 1)" in warning for warning in report["warnings"])
    both = {system.stores.catalog.file_of_job(file).rows_ref for file in (training, validation)}
    for file in (training, validation):
        system.stores.catalog.delete_file(DEFAULT_PROJECT, file)
    assert both <= system.stores.retention.needed(0.0).contents, "the job ended not long ago"
    system.stores.catalog.delete_alias(DEFAULT_PROJECT, "expert")
    assert not both & system.stores.retention.needed(time.time() + 60).contents
