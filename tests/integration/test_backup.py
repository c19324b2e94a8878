"""`meteor backup`: a copy made while a job runs is a system that finishes the job."""

import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.local.backup import back_up
from services.meteor.main import cli
from services.orchestrator import scheduler
from shared.contracts.errors import UserError
from shared.jobs.states import StepState
from tests.fakes.system import System


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    monkeypatch.setenv("METEOR_LEASE", "PT1S")  # so long the copy waits for those who worked on the original
    monkeypatch.setenv("METEOR_RENEW", "PT0.3S")
    return tmp_path


async def test_a_copy_made_in_mid_job_finishes_it_and_pays_for_nothing_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    original = System(folder / "data", monkeypatch)
    original.lease_s, original.seconds = 1.0, lambda request: 0.02
    job = original.post(original.file())
    async with original.running():
        await original.until_ran(job, 4)
        assert CliRunner().invoke(cli, ["backup", str(folder / "copy"), "--data", str(folder / "data")]).exit_code == 0
        await original.until(job, "succeeded")
    copy = System(folder / "copy", monkeypatch, original.world)
    finished = {row.key for row in copy.stores.steps.of_job(job) if row.state == StepState.SUCCEEDED}
    paid = copy.calls(job)
    assert finished
    assert paid
    async with copy.running():
        await copy.until(job, "succeeded")
    assert not finished & set(copy.ran[job])
    assert copy.calls(job) == original.calls(job) > paid
    one, other = original.report(job), copy.report(job)
    assert (one["table"], one["decisions"], one["samples"]) == (other["table"], other["decisions"], other["samples"])


async def test_a_second_backup_copies_what_is_new(folder: Path, monkeypatch: pytest.MonkeyPatch):
    system = System(folder / "data", monkeypatch)
    target = folder / "copy"
    async with system.running():
        await system.until(system.post(system.file(), phases=["distill"]), "succeeded")
        first = back_up(system.settings, target)
        await system.until(job := system.post(system.file(train=44), phases=["distill"]), "succeeded")
    whole = folder / "data" / "artifacts" / "whole"
    whole.mkdir()
    (whole / "weights").write_bytes(b"w" * 1000)
    served = folder / "data" / "serving" / "whole"
    served.mkdir()
    (served / "weights").hardlink_to(whole / "weights")
    (folder / "data" / "some-key").write_text("secret")
    second = back_up(system.settings, target)
    assert first.files > 20
    assert second.kept == first.files
    assert 0 < second.files < first.files
    assert (target / "artifacts/whole/weights").samefile(target / "serving/whole/weights")
    assert (target / "some-key").read_text() == "secret"
    assert target.stat().st_mode & 0o077 == 0
    with sqlite3.connect(target / "meteor.sqlite3") as copied:
        assert copied.execute("SELECT status FROM jobs WHERE id = ?", [job]).fetchone() == ("succeeded",)


def test_a_folder_inside_and_a_database_elsewhere_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    system = System(folder / "data", monkeypatch)
    with pytest.raises(UserError, match="in the data folder itself"):
        back_up(system.settings, folder / "data" / "backups")
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match="is DATABASE_URL set"):
        back_up(system.settings.model_copy(update={"data": folder / "empty"}), folder / "copy")
