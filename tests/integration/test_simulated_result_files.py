"""A succeeded job leaves one file with its trainings' losses; a replay makes no second one, and a full project loses no job."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from services.api.features.files import service as files
from services.api.features.jobs import service as api_jobs
from services.orchestrator import scheduler
from shared.contracts.errors import UserError
from shared.db.engine import reading, writing
from shared.jobs.tables import files as files_table
from shared.jobs.tables import jobs, projects
from tests.fakes.system import System

SPEC: dict[str, Any] = {"phases": ["distill"], "guidance": "none"}


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    return System(tmp_path, monkeypatch)


async def test_one_file_with_the_losses(system: System):
    async with system.running():
        job = system.post(system.file(), **SPEC)
        await system.until(job, "succeeded")
        (file,) = api_jobs.lifecycle.get(system.context, job).result_files
        with writing(
            system.stores.jobs.engine
        ) as connection:  # as if the orchestrator had gone down before the job's end
            connection.execute(
                update(jobs).where(jobs.c.id == job).values(status="running", lease_expires=0.0, result=None)
            )
        await system.until(job, "succeeded")
    assert api_jobs.lifecycle.get(system.context, job).result_files == [file]
    shown = files.get(system.context, file)
    assert (shown.purpose, shown.filename, shown.status) == ("fine-tune-results", "step_metrics.csv", "processed")
    path, _ = files.content(system.context, file)
    lines = path.read_text().splitlines()
    assert lines[0].startswith("step,train_loss,train_accuracy,valid_loss,")
    assert lines[1:] == ["1,1.0,,,,distill/train,1", "2,0.5,,,,distill/train,2"]
    with reading(system.stores.jobs.engine) as connection:
        assert (
            connection.execute(select(func.count()).where(files_table.c.purpose == "fine-tune-results")).scalar() == 1
        )
    with pytest.raises(UserError, match="fine-tune-results"):
        files.validate(system.context, file)
    with pytest.raises(UserError, match="no dataset"):
        system.post(file, **SPEC)


async def test_a_project_without_room_gets_its_model_all_the_same(system: System):
    file = system.file()
    with writing(system.stores.jobs.engine) as connection:
        connection.execute(update(projects).values(stored_bytes=10))
    async with system.running():
        job = system.post(file, **SPEC)
        row = await system.until(job, "succeeded")
    assert row.fine_tuned_model is not None
    assert api_jobs.lifecycle.get(system.context, job).result_files == []
    warnings = [event.message for event in system.stores.jobs.events(job, limit=1000) if event.level == "warn"]
    assert any("step_metrics.csv is not kept" in message for message in warnings)
    assert not [path for path in (system.settings.data / "files").iterdir() if not path.name.startswith(".")]
