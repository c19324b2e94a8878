"""`meteor doctor` and a Ray cluster: what is wrong with it, and nothing where none is named."""

import os
from pathlib import Path

import pytest

from services.local.doctor.cluster import ray
from services.local.doctor.finding import Finding, Health, Installation
from tests.fakes.installation import make_sound
from tests.fakes.ports import free_port
from tests.fakes.ray_jobs import ray_jobs


@pytest.fixture(autouse=True)
def _sound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_sound(monkeypatch, tmp_path)


def test_the_doctor_asks_the_cluster_as_the_trainer_does(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def findings(**given: str) -> list[Finding]:
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        return list(ray(Installation.of(data, os.environ)))

    assert findings() == []
    (unnamed,) = findings(METEOR_TRAINER_LAUNCHER="ray")
    assert (unnamed.health, "http://HOST:8265" in unnamed.fix) == (Health.FAIL, True)
    away = f"http://127.0.0.1:{free_port()}"
    folder, silent = findings(METEOR_TRAINER_RAY_ADDRESS=away)
    assert ("METEOR_ARTIFACTS_URL" in folder.message, "does not answer" in silent.message) == (True, True)
    with ray_jobs() as server:
        server.token = "secret-of-the-cluster"
        (refused,) = findings(METEOR_TRAINER_RAY_ADDRESS=server.url, METEOR_ARTIFACTS_URL=f"file://{tmp_path}/objects")
        assert (refused.health, "METEOR_TRAINER_RAY_TOKEN" in refused.fix) == (Health.FAIL, True)
        (sound,) = findings(METEOR_TRAINER_RAY_TOKEN="secret-of-the-cluster")
        assert (sound.health, "Ray 2.60.0" in sound.message) == (Health.OK, True)
        assert "secret-of-the-cluster" not in sound.message
