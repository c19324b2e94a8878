"""A job's metrics in W&B, MLflow and trackio: through their own libraries, again after a fault, and never at the job's cost.

METEOR_TEST_INTEGRATIONS names an interpreter that has the libraries, where the tests' own has none.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from services.orchestrator import integration_child, integrations
from shared.artifacts.store import Artifacts
from shared.contracts.distillation import Distillation
from shared.contracts.integrations import IntegrationType
from shared.contracts.jobs import JobRequest, JobStatus
from shared.db.engine import writing
from shared.jobs import tables
from shared.jobs.records import JobRecord
from shared.jobs.schema import Stores, open_stores
from shared.jobs.tables import DEFAULT_PROJECT
from shared.jobs.tallies import Tally
from shared.platform.settings import PlatformSettings

PYTHON = os.environ.get("METEOR_TEST_INTEGRATIONS", sys.executable)


@cache
def has(library: str) -> bool:
    return (
        subprocess.run(
            [PYTHON, "-c", f"import importlib.util as u; raise SystemExit(u.find_spec('{library}') is None)"]
        ).returncode
        == 0
    )


def needs(library: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not has(library), reason=f"{library} is not installed (the extra `{library}`, or METEOR_TEST_INTEGRATIONS)"
    )


class World:
    """A database with one job that asks for an integration, and a child that fails as often as it is told to."""

    def __init__(self, folder: Path, kind: str, python: str = PYTHON):
        self.settings = PlatformSettings(data=folder, integrations=kind, integrations_python=python)
        self.stores: Stores = open_stores(self.settings.database)
        self.artifacts = Artifacts(self.settings.artifacts)
        asked: Any = [{"type": kind, kind: {"project": "tiny jobs"}}]
        request = JobRequest(
            model="tiny",
            training_file="file-1",
            distillation=Distillation(domain="what a user wrote"),
            integrations=asked,
        )
        with writing(self.stores.jobs.engine) as connection:
            values = {
                "id": "file-1",
                "project_id": DEFAULT_PROJECT,
                "sha256": "0" * 64,
                "bytes": 1,
                "filename": "f",
                "purpose": "fine-tune",
            }
            connection.execute(tables.files.insert().values(**values, status="processed", errors=[], created_at=0.0))
        self.job: JobRecord = self.stores.jobs.create(DEFAULT_PROJECT, request)
        claimed = self.stores.jobs.claim("o", 600)
        assert claimed is not None
        self.job = claimed

    def told(self, **data: Any) -> None:
        self.stores.jobs.add_event(self.job, "figures", type="metrics", data=data)

    def end(self) -> None:
        assert self.stores.jobs.end(
            self.job, JobStatus.SUCCEEDED, evaluation={"gain": 0.25, "words": "what a model wrote"}
        )

    def send(self) -> None:
        with writing(self.stores.jobs.engine) as connection:
            connection.execute(update(tables.integrations).values(next_at=0.0))
        integrations.send_due(self.stores, self.artifacts, self.settings)

    def sends(self, outcome: str) -> int:
        return self.stores.tallies.all().n(Tally.INTEGRATION, self.settings.integrations, outcome)

    def warnings(self) -> list[str]:
        events = self.stores.integrations.events_after(self.job.id, 0, 100)
        return [event.message for event in events if event.level == "warn"]


def whole_job(world: World) -> None:
    """Two parts, the first of which is sent twice, as after a crash before it was noted."""
    world.told(round=1, pass_rate={"1": 0.5}, words="what a user wrote")
    world.send()
    with writing(world.stores.jobs.engine) as connection:
        connection.execute(update(tables.integrations).values(sequence=0))
    world.told(round=2, pass_rate={"1": 0.75})
    world.send()
    world.end()
    world.send()
    world.send()
    assert (world.sends("sent"), world.sends("failed"), world.warnings()) == (3, 0, [])


@needs("mlflow")
def test_mlflow_has_each_value_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path / 'mlruns'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    world = World(tmp_path, "mlflow")
    whole_job(world)
    (run,) = [path.parent for path in (tmp_path / "mlruns").glob("*/*/metrics")]
    values = {
        str(path.relative_to(run / "metrics")): path.read_text().split("\n")[:-1]
        for path in (run / "metrics").rglob("*")
        if path.is_file()
    }
    assert [line.split()[1] for line in values["pass_rate/1"]] == ["0.5", "0.75"]
    assert [line.split()[1] for line in values["evaluation/gain"]] == ["0.25"]
    assert (run / "params/model").read_text() == "tiny"
    assert (run / "tags/meteor.job").read_text() == world.job.id
    assert re.search(r"^status: (3|FINISHED)$", (run / "meta.yaml").read_text(), re.MULTILINE)
    assert no_words(tmp_path / "mlruns")


@needs("wandb")
def test_wandb_offline_writes_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    world = World(tmp_path, "wandb")
    whole_job(world)
    runs = list(tmp_path.rglob(f"*{world.job.id}*.wandb"))
    assert runs
    written = b"".join(path.read_bytes() for path in runs)
    assert b"pass_rate/1" in written
    assert b"evaluation/gain" in written
    assert no_words(tmp_path / "wandb")


@needs("trackio")
def test_trackio_keeps_it_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    world = World(tmp_path, "trackio")
    whole_job(world)
    written = b"".join(path.read_bytes() for path in (tmp_path / "trackio").rglob("*") if path.is_file())
    assert b"pass_rate/1" in written
    assert no_words(tmp_path / "trackio")


def no_words(folder: Path) -> bool:
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return b"what a user wrote" not in written and b"what a model wrote" not in written


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[dict[str, Any]]]:
    """Puts a program in the libraries' place; returns what it is given."""
    monkeypatch.setattr(integrations, "CHILD", tmp_path / "child.py")

    def put(code: str) -> list[dict[str, Any]]:
        (tmp_path / "child.py").write_text(f"import json, os, sys\ngiven = json.load(sys.stdin)\n{code}\n")
        return []

    return put


def test_a_fault_is_told_once_and_the_job_goes_on(tmp_path: Path, child: Callable[[str], Any]):
    world = World(tmp_path, "wandb", sys.executable)
    child("raise SystemExit('the network is away')")
    world.told(round=1)
    for _ in range(3):
        world.send()
    assert world.sends("failed") == 3
    assert len(world.warnings()) == 1
    assert "the job goes on" in world.warnings()[0]
    job = world.stores.jobs.get(world.job.id)
    assert job is not None
    assert (job.status, job.error) == (JobStatus.RUNNING, None)
    child("open('sent.json', 'w').write(json.dumps(given))")
    world.send()
    assert world.sends("sent") == 1
    given = json.loads((tmp_path / "integrations" / "sent.json").read_text())
    assert [point["metrics"] for point in given["points"]] == [{"round": 1}], "nothing was lost meanwhile"
    assert given["project"] == "tiny jobs"


def test_it_is_given_up_after_a_day(tmp_path: Path, child: Callable[[str], Any]):
    world = World(tmp_path, "mlflow", sys.executable)
    child("raise SystemExit(1)")
    world.told(round=1)
    with writing(world.stores.jobs.engine) as connection:
        connection.execute(update(tables.integrations).values(failures=16))
    world.send()
    assert world.warnings() == []
    world.send()
    assert "not tried again" in world.warnings()[0]
    world.send()
    assert world.sends("failed") == 2


def test_the_library_sees_its_own_variables_and_none_of_our_secrets(
    tmp_path: Path, child: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
):
    world = World(tmp_path, "wandb", sys.executable)
    for name in (
        "WANDB_API_KEY",
        "MLFLOW_TRACKING_TOKEN",
        "METEOR_INTERNAL_TOKEN",
        "DATABASE_URL",
        "METEOR_TEACHER_API_KEY",
    ):
        monkeypatch.setenv(name, f"value of {name}")
    child("open('seen.json', 'w').write(json.dumps(dict(os.environ)))")
    world.told(round=1)
    world.send()
    seen = json.loads((tmp_path / "integrations" / "seen.json").read_text())
    assert seen["WANDB_API_KEY"] == "value of WANDB_API_KEY"
    assert {name for name in seen if name.startswith(("METEOR_", "MLFLOW_", "DATABASE_"))} == set()
    rows = (tmp_path / "meteor.sqlite3").read_bytes() + (tmp_path / "meteor.sqlite3-wal").read_bytes()
    assert b"value of WANDB_API_KEY" not in rows


def test_texts_are_no_metrics():
    data = {"round": 1, "words": "w", "done": True, "rates": {"1": 0.5}, "list": [1, "x"], "none": None}
    assert dict(integrations.numbers(data)) == {"round": 1, "rates/1": 0.5, "list/0": 1}


def test_each_type_has_a_program():
    assert set(integration_child.PARTS) == {kind.value for kind in IntegrationType}
