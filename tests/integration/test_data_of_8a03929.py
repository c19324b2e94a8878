"""A data folder made by commit 8a03929 opens with today's code: same answers of the API, and its finished steps are reused."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from services.api.app import create_app
from services.api.features.jobs import service as api_jobs
from services.api.settings import ApiSettings
from services.orchestrator import scheduler
from shared.contracts.jobs import JobRequest
from shared.jobs.schema import open_stores
from shared.jobs.tables import DEFAULT_PROJECT
from shared.plan.plan import JUDGE_GATE
from shared.platform.settings import PlatformSettings
from tests.fakes.simulated import BASE
from tests.fakes.system import System

NEW = "pilot/judge/verdicts"  # the pilot did not try the judge then
ARCHIVE = Path(__file__).parents[1] / "data" / "folder-2026-11.tar.gz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """Values of `before` that `now` lacks or changes. Fields may have been added."""
    if isinstance(before, dict) and isinstance(now, dict):
        lost = [f"{path}/{name} is missing" for name in before.keys() - now.keys()]
        return lost + [
            d for name in before.keys() & now.keys() for d in differences(before[name], now[name], f"{path}/{name}")
        ]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [d for n, pair in enumerate(zip(before, now, strict=True)) for d in differences(*pair, f"{path}/{n}")]
    return [] if before == now else [f"{path}: {before!r} became {now!r}"]


def test_the_api_answers_as_before(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_STUDENT_MODEL", BASE.base)
    app = create_app(ApiSettings(gateway_url="http://127.0.0.1:1"), PlatformSettings(data=folder / "data"))
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as http:
        for path, before in json.loads((folder / "answers.json").read_text()).items():
            response = http.get(path)
            assert response.status_code == 200, (path, response.text)
            assert differences(before, response.json(), path) == []
        (file,) = (f for f in http.get("/v1/files").json()["data"] if f["purpose"] == "fine-tune")
        assert http.get(f"/v1/files/{file['id']}/content").text.count("\n") == 120
        assert http.get("/v1/audit").json()["data"][-1]["route"] == "/v1/files"
        (hook,) = http.get("/v1/webhooks").json()["data"]
        (delivery,) = http.get(f"/v1/webhooks/{hook['id']}/deliveries").json()["data"]
        assert delivery["event_type"] == "fine_tuning.job.succeeded"


async def test_the_same_job_reuses_every_finished_step(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    system = System(folder / "data", monkeypatch)
    ((before,), _) = system.stores.jobs.page(DEFAULT_PROJECT, None, 10)
    request = JobRequest.model_validate(before.request)
    async with system.running():
        again = api_jobs.create(system.context, request).id
        await system.until(again, "succeeded")
    assert system.ran[again] == [NEW]
    old, new = system.stores.steps.of_job(before.id), system.stores.steps.of_job(again)
    assert {step.key: step.input_hash for step in new if step.key != NEW} == {s.key: s.input_hash for s in old}
    assert all(step.reused_from for step in new if step.key != NEW)
    assert system.ledger.usage(again).teacher_calls == JUDGE_GATE


def test_every_record_can_be_read(folder: Path):
    stores = open_stores(f"sqlite:///{folder / 'data' / 'meteor.sqlite3'}")
    ((job,), _) = stores.jobs.page(DEFAULT_PROJECT, None, 10)
    assert job.status == "succeeded"
    assert job.progress.percent == 100
    assert len(stores.steps.of_job(job.id)) == 32
    assert len(stores.jobs.events(job.id)) == 19
    ((model, served),) = stores.catalog.models(DEFAULT_PROJECT)
    assert served
    assert model.job_id == job.id
    assert len(stores.labels.page(DEFAULT_PROJECT, None, 10)[0]) == 1
    assert len(stores.audit.page(None, None, 10)[0]) == 3
