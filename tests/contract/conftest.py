"""The real API as a process, with a real broker, a fake engine, and the stock openai client."""

import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
import uuid_utils
from sqlalchemy import func, select

from shared.db.engine import writing
from shared.db.fetch import fetch_one
from shared.jobs.records import ModelRecord
from shared.jobs.schema import Stores, open_stores
from shared.jobs.tables import DEFAULT_PROJECT, models
from shared.ledger.store import open_ledger
from shared.platform.settings import PlatformSettings
from tests.fakes.loopback import LOOPBACK
from tests.fakes.ports import free_port, wait_until
from tests.fakes.vllm import FakeVllm, running_vllm

KEY = "key-of-the-tests"
TOKEN = "internal-token-of-the-tests"
SCRAPER = "metrics-token-of-the-tests"
BASE = "tiny-base"
LARGER = "org/larger"  # a second student; an engine that serves one model for ever does not offer it
ADAPTER = "a" * 64


@dataclass
class RunningApi:
    url: str
    process: subprocess.Popen
    platform: PlatformSettings
    stores: Stores

    def peak_bytes(self) -> int:
        """The most memory that the process has held so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


def api_environment(data: Path, port: int, **changes: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("METEOR_", "DATABASE_", "REDIS_"))
    }
    return kept | {
        "METEOR_DATA": str(data),
        "METEOR_API_PORT": str(port),
        "METEOR_API_KEYS": f"another-key, {KEY}",
        "METEOR_INTERNAL_TOKEN": TOKEN,
        "METEOR_API_METRICS_TOKEN": SCRAPER,
        "METEOR_STUDENT_MODEL": BASE,
        "METEOR_STUDENTS": f"{LARGER}=/models/larger",
        "METEOR_API_EVENTS_POLL_S": "0.1",
        "METEOR_API_EVENTS_PING_S": "0.3",
    } | changes  # fmt: skip


def _answers(url: str) -> bool:
    try:
        return LOOPBACK.get(f"{url}/healthz", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def running_api(data: Path, **changes: str) -> Generator[RunningApi]:
    port = free_port()
    environment = api_environment(data, port, **changes)
    url = f"http://127.0.0.1:{port}"
    platform = PlatformSettings(data=data)
    stores = open_stores(f"sqlite:///{(data / 'meteor.sqlite3').resolve()}")  # before the API: it need not migrate
    open_ledger(platform.ledger_database)
    process = subprocess.Popen([sys.executable, "-m", "services.api"], env=environment)
    try:
        wait_until(lambda: process.poll() is not None or _answers(url), 240, "the API")
        assert process.poll() is None, f"the API ended with {process.returncode}"
        yield RunningApi(url, process, platform, stores)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def engine() -> Iterator[FakeVllm]:
    with running_vllm({BASE, ADAPTER}) as state:
        yield state


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory, engine: FakeVllm, _valkey_server: str) -> Iterator[RunningApi]:
    data = tmp_path_factory.mktemp("api")
    with running_api(data, METEOR_API_ENGINE_URL=engine.url, REDIS_URL=_valkey_server) as running:
        yield running


@pytest.fixture(scope="module")
def client(api: RunningApi) -> Iterator[openai.OpenAI]:
    """The stock client: base_url and a key, nothing else (retries off, so that each error is seen once)."""
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def http(api: RunningApi) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=api.url, headers=headers, timeout=60, trust_env=False) as made:
        yield made


def publish_version(api: RunningApi, alias: str, adapter: str, **changes: str) -> ModelRecord:
    """A version of an alias, as if a job had made it. changes: to its row."""
    values = {
        "id": f"model-{uuid_utils.uuid7().hex}",
        "project_id": DEFAULT_PROJECT,
        "alias": alias,
        "adapter": adapter,
    }
    made = {"base": BASE, "base_hash": "b", "state": "promoted", "created_at": time.time()} | changes
    with writing(api.stores.jobs.engine) as connection:
        last = connection.execute(select(func.max(models.c.version)).where(models.c.alias == alias)).scalar_one() or 0
        query = models.insert().values(**values, **made, version=last + 1).returning(models)
        return fetch_one(connection, ModelRecord, query)


def rows(count: int, start: int = 0) -> bytes:
    """A good dataset: the splits follow from the texts, so the same count gives the same splits."""
    return b"".join(
        b'{"question": "What is %d plus %d?", "reference": "%d"}\n' % (n, n, 2 * n) for n in range(start, start + count)
    )
