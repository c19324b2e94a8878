"""A whole job with material for strong models alone: which steps carry it, and which never do."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator import scheduler
from services.orchestrator.method.pipeline import meteor
from shared.artifacts import material
from shared.contracts.report import read_report
from shared.contracts.steps import Queue, StepKind, StepRequest
from shared.jobs.tables import DEFAULT_PROJECT
from shared.reporting.markdown import as_markdown
from tests.fakes.simulated import Simulation, World, questions
from tests.fakes.system import System

SCHEMA, OF_ROW = "CREATE TABLE secret_of_the_job", "secret of the row "
STUDENTS = (Queue.WEAK, Queue.TRAIN)


class Watched(World):
    """Keeps what its workers were asked."""

    def __init__(self) -> None:
        super().__init__(0.4, train=lambda request, before: 0.9)
        self.requests: list[StepRequest] = []

    async def run(self, job: Any, key: Any, request: StepRequest, limit: Any, on_progress: Any) -> Any:
        self.requests.append(request)
        return await super().run(job, key, request, limit, on_progress)


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Simulation(tmp_path)


async def run(simulation: Simulation, world: Watched, shown: str, **spec: Any) -> dict[str, Any]:
    rows = [
        row.model_copy(update={"teacher_context": OF_ROW + row.id})
        for row in questions(train=24, dev=8, test=8, references=True)
    ]
    request = simulation.request(**spec)
    simulation.stores.jobs.create(DEFAULT_PROJECT, request)
    job = simulation.stores.jobs.claim("simulation", 3600)
    assert job is not None
    stored = material.stored(simulation.artifacts, [shown.encode()])
    run = simulation.new_run(job, world.run, rows, material=stored)
    return (await meteor(run.context, run)).model_dump(mode="json")


async def test_students_never_see_what_the_teacher_and_the_judge_are_shown(simulation: Simulation):
    world = Watched()
    evaluation = {"judged_questions": 4, "forgetting": 0}
    report = await run(
        simulation, world, SCHEMA, guidance="weak", evaluation=evaluation, iterate={"on_failure": "teacher"}
    )
    digest = material.stored(simulation.artifacts, [SCHEMA.encode()]).digests[0]
    taught = {row["id"] for request in world.requests for row in request.rows if row["id"].startswith("train")}
    assert report["material"] == {"texts": [digest], "bytes": len(SCHEMA), "rows": len(taught)}
    shown = (
        f"shown what no student was: {len(SCHEMA)} bytes ({digest[:12]}), and material of their own with {len(taught)}"
    )
    assert shown in as_markdown(read_report(report))
    kinds = {request.kind for request in world.requests}
    assert kinds >= {
        StepKind.GUIDE, StepKind.ANSWER, StepKind.REASON, StepKind.SFT, StepKind.SEARCH, StepKind.DPO, StepKind.TEACH,
        StepKind.REVIEW, StepKind.COMPARE, StepKind.RATE,
    }  # fmt: skip
    for request in world.requests:
        sent = json.dumps(request.model_dump(mode="json"))
        if request.kind.queue in STUDENTS or request.kind is StepKind.GRADE:
            assert OF_ROW not in sent, request.kind
            assert digest not in sent, request.kind
        else:
            assert request.params["material"] == [digest], request.kind
            assert all(row["teacher_context"] == OF_ROW + row["id"] for row in request.rows), request.kind


async def test_another_text_asks_the_teacher_again_and_leaves_what_students_did(simulation: Simulation):
    asked = {}
    for shown in (SCHEMA, "CREATE TABLE another"):
        world = Watched()
        await run(simulation, world, shown, phases=["distill"], guidance="none", evaluation={"forgetting": 0})
        asked[shown] = world.requests

    def hashes(shown: str, kind: StepKind) -> list[str]:
        return [json.dumps(one.model_dump(mode="json")) for one in asked[shown] if one.kind is kind]

    one, other = asked
    assert set(hashes(one, StepKind.TEACH)).isdisjoint(hashes(other, StepKind.TEACH))
    assert hashes(one, StepKind.SFT) == hashes(other, StepKind.SFT)


async def test_a_posted_jobs_files_and_texts_reach_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From the API's request through the orchestrator that opens the job; the hash of a file's artifact is the file's own."""
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    system = System(tmp_path, monkeypatch)
    content = b"\xef\xbb\xbfCREATE TABLE of_a_file"
    digest = hashlib.sha256(content).hexdigest()
    system.settings.files.mkdir(parents=True, exist_ok=True)
    (system.settings.files / digest).write_bytes(content)
    file_id = system.stores.catalog.add_file(
        DEFAULT_PROJECT, sha256=digest, bytes=1, filename="f", purpose="user_data", status="processed", errors=[]
    ).id
    teacher = {"context": [file_id, SCHEMA], "samples": 2}
    async with system.running():
        job = system.post(system.file(), teacher=teacher, phases=["distill"], guidance="none")
        await system.until(job, "succeeded")
    asked = [
        StepRequest.model_validate(system.artifacts.get_json(step.input_hash))
        for step in system.stores.steps.of_job(job)
        if step.kind == StepKind.TEACH
    ]
    assert asked
    assert all(request.params["samples"] == 2 for request in asked)
    for request in asked:
        shown = material.read(system.artifacts, request.params["material"])
        assert shown == ["CREATE TABLE of_a_file", SCHEMA]
        assert request.params["material"][0] == digest
