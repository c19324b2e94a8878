"""`meteor upload-artifacts`: a data folder's artifacts on object storage, and a system that goes on from there."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.local.progress import SilentReport
from services.local.upload_artifacts import upload
from services.meteor.main import cli
from services.orchestrator import scheduler
from shared.artifacts import remote as remotes
from shared.artifacts.objects import Objects, ObjectsUnavailable
from shared.artifacts.opening import ARTIFACTS, open_artifacts, open_uploads, remote_of
from shared.contracts.errors import UserError
from shared.platform.settings import PlatformSettings
from tests.fakes.system import System

pytest.importorskip("obstore", reason="object storage is an extra: requirements/s3.lock")
PART = 1000
ROWS = b"rows"


class Folder:
    """A data folder with one artifact of each form and one upload, and settings that name a storage beside it."""

    def __init__(self, above: Path):
        self.data, self.url = above / "data", f"file://{above}/bucket"
        local = PlatformSettings(data=self.data, disk_floor_gb=0)
        adapter = above / "adapter"
        (adapter / "deep").mkdir(parents=True)
        (adapter / "config.json").write_bytes(b"{}")
        (adapter / "deep" / "weights").write_bytes(os.urandom(3 * PART))
        artifacts = open_artifacts(local)
        self.adapter, self.value = artifacts.put_folder(adapter), artifacts.put_json([1])
        self.long = artifacts.put(os.urandom(2 * PART + 7))
        self.upload = hashlib.sha256(ROWS).hexdigest()
        local.files.mkdir(parents=True)
        (local.files / self.upload).write_bytes(ROWS)
        (local.files / "arriving").write_bytes(b"ro")
        (local.artifacts / ".tmp-1").write_bytes(b"half")
        self.settings = local.model_copy(update={"artifacts_url": self.url})

    def path(self, digest: str) -> Path:
        return self.data / "artifacts" / digest[:2] / digest

    def command(self, *options: str) -> Result:
        return CliRunner().invoke(cli, ["upload-artifacts", *options, "--data", str(self.data)])

    def content(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.data.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(remotes, "PART", PART)
    made = Folder(tmp_path)
    monkeypatch.setenv("METEOR_ARTIFACTS_URL", made.url)
    return made


def test_all_of_a_folder_is_there_afterwards_and_nothing_left_it(folder: Folder, tmp_path: Path):
    before = folder.content()
    done = json.loads(folder.command("--json", "--verify").stdout)
    assert (done["artifacts"], done["files"], done["kept"]) == (3, 1, 0)
    assert done["bytes"] == 2 + 3 * PART + 3 + 2 * PART + 7 + len(ROWS)
    assert folder.content() == before
    elsewhere = folder.settings.model_copy(update={"data": tmp_path / "other"})
    there = open_artifacts(elsewhere)
    assert there.get_json(folder.value) == [1]
    assert (there.folder(folder.adapter) / "deep" / "weights").stat().st_size == 3 * PART
    assert there.file(folder.long).read_bytes() == folder.path(folder.long).read_bytes()
    assert open_uploads(elsewhere).path(folder.upload).read_bytes() == ROWS
    again = folder.command("--verify")
    assert again.exit_code == 0
    assert "sent 0 artifacts and 0 files, 0.00 GB" in again.stdout
    assert "4 were there and were read back" in again.stdout


def test_what_was_cut_off_goes_on(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    create, tried = Objects.create, []

    def until_it_breaks(self: Objects, key: str, content: bytes) -> bool:
        tried.append(key)
        if len(tried) > 3:
            raise ObjectsUnavailable("the network is down", "wait")
        return create(self, key, content)

    monkeypatch.setattr(Objects, "create", until_it_breaks)
    with pytest.raises(ObjectsUnavailable):
        upload(folder.settings, False, SilentReport())
    monkeypatch.setattr(Objects, "create", create)
    done = upload(folder.settings, True, SilentReport())
    assert done.complete
    assert done.artifacts + done.files + done.kept == 4
    monkeypatch.setattr(Objects, "create", until_it_breaks)
    assert upload(folder.settings, True, SilentReport()).kept == 4, "what is there is not sent again"


@pytest.mark.parametrize("form", ["value", "adapter"])
def test_what_has_changed_on_disk_is_not_sent(folder: Folder, form: str):
    path = folder.path(getattr(folder, form))
    (path / "config.json" if path.is_dir() else path).write_bytes(b"[2]")
    done = folder.command()
    assert done.exit_code == 1
    assert f"not sent, because its content has changed: {path}" in done.stdout
    assert "sent 2 artifacts and 1 files" in done.stdout
    assert path.name not in remote_of(folder.settings, ARTIFACTS).names()


def test_verify_finds_what_is_damaged_there(folder: Folder):
    assert folder.command().exit_code == 0
    remote = remote_of(folder.settings, ARTIFACTS)
    key = f"{ARTIFACTS}/{folder.value[:2]}/{folder.value}"
    remote.objects.put(key, b"other")
    config = hashlib.sha256(b"{}").hexdigest()
    remote.objects.delete([f"{ARTIFACTS}/{config[:2]}/{config}"])
    done = folder.command("--verify")
    assert done.exit_code == 1
    assert f"{key} does not hold what its name says; remove that object" in done.stdout
    remote.objects.delete([key])
    assert "sent 1 artifacts" in folder.command("--verify").stdout
    assert remote.has_folder(folder.adapter), "its missing file was sent again"


def test_a_place_that_cannot_take_them_is_refused(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for changes, words in (
        ({"artifacts_url": ""}, "METEOR_ARTIFACTS_URL is not set"),
        ({"artifacts_url": f"file://{folder.data}"}, "in the data folder itself"),
        ({"artifacts_url": f"file://{folder.data}/cache"}, "in the data folder itself"),
        ({"data": tmp_path / "nowhere"}, "holds no artifacts"),
    ):
        with pytest.raises(UserError, match=words):
            upload(folder.settings.model_copy(update=changes), False, SilentReport())
    monkeypatch.delenv("METEOR_ARTIFACTS_URL")
    assert folder.command().exit_code == 1
    assert not (tmp_path / "bucket").exists()


async def test_a_system_goes_on_from_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its report is read, and an equal job takes over every step, without the folder's artifacts."""
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    before = System(tmp_path / "data", monkeypatch)
    async with before.running():
        await before.until(job := before.post(before.file(train=12, dev=8, test=8), phases=["distill"]), "succeeded")
    report = before.report(job)
    monkeypatch.setenv("METEOR_ARTIFACTS_URL", f"file://{tmp_path}/bucket")
    done = upload(PlatformSettings(data=tmp_path / "data"), False, SilentReport())
    assert done.complete
    assert done.artifacts > 20
    (tmp_path / "data" / "artifacts").rename(tmp_path / "old")
    after = System(tmp_path / "data", monkeypatch, before.world)
    assert after.report(job) == report
    async with after.running():
        await after.until(again := after.post(after.file(train=12, dev=8, test=8), phases=["distill"]), "succeeded")
    assert not after.ran[again], "each step's result is taken over"
