"""The real gateway as a process of its own, its ledger, and the fake teacher behind it."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple

from sqlalchemy import select

from shared.db.engine import reading
from shared.ledger.store import Ledger, open_ledger
from shared.ledger.tables import calls
from shared.platform.gateway_client import GatewayClient, origin_headers
from tests.fakes.loopback import LOOPBACK
from tests.fakes.ports import free_port
from tests.fakes.start import FakeServer, running

TOKEN, KEY = "internal-token", "sk-teacher-key"
NOBODY = ("judge", "down")  # providers at whose address nobody listens
PATIENT = {"METEOR_STRONG_ATTEMPT_TIMEOUT": "PT60S", "METEOR_STRONG_DEADLINE": "PT60S"}


class Gateway(NamedTuple):
    url: str
    ledger: Ledger
    teacher: FakeServer
    process: Popen

    def client(self, step: str = "step-1", job: str = "job-1", token: str = TOKEN, project: str = "p") -> GatewayClient:
        return GatewayClient(self.url, token, origin_headers(project, job, step, "distill"))

    def rows(self) -> list:
        with reading(self.ledger.engine) as connection:
            return list(connection.execute(select(calls).order_by(calls.c.created_at, calls.c.id)))

    def row(self, call_id: str | None):
        return next(row for row in self.rows() if row.id == call_id)

    def joined(self) -> int:
        """Callers so far that waited for a call which another caller had opened, by the gateway's own metrics."""
        return int(self.metric("meteor_teacher_joined_total"))

    def metric(self, name: str) -> float:
        """One of the gateway's own metrics, named with its labels."""
        lines = LOOPBACK.get(f"{self.url}/metrics").text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def gateway_env(teacher: FakeServer, folder: str, port: int) -> dict[str, str]:
    return {
        "METEOR_DATA": folder,
        "METEOR_INTERNAL_TOKEN": TOKEN,
        "METEOR_STRONG_PORT": str(port),
        "METEOR_STRONG_ATTEMPT_TIMEOUT": "PT1.5S",
        "METEOR_STRONG_DEADLINE": "PT6S",
        "METEOR_STRONG_BACKOFF": "PT0.05S",
        "METEOR_STRONG_MAX_BACKOFF": "PT1S",
        "METEOR_STRONG_BREAKER_PAUSE": "PT0.2S",
        "METEOR_STRONG_ATTEMPTS": "3",
        "METEOR_STRONG_PATIENCE": "PT3S",
        "METEOR_STRONG_CONCURRENCY": "8",
        "METEOR_STRONG_MAX_ANSWER_BYTES": "2000000",
        "METEOR_TEACHER_BASE_URL": teacher.base_url,
        "METEOR_TEACHER_MODEL": "fake-large",
        "METEOR_TEACHER_API_KEY": KEY,
        "METEOR_TEACHER_PRICE_INPUT": "1",
        "METEOR_TEACHER_PRICE_OUTPUT": "2",
        "DATABASE_URL": f"sqlite:///{folder}/ledger.sqlite3",
        "METEOR_JUDGE_BASE_URL": f"http://127.0.0.1:{free_port()}/v1",  # nobody listens there
        "METEOR_JUDGE_MODEL": "fake-judge",
    }


@contextmanager
def running_gateway(teacher: FakeServer, folder: Path, **more: str) -> Generator[Gateway]:
    """Impatient (1.5 s per attempt, 3 attempts) unless `more` environment says otherwise. Its key is KEY."""
    port = free_port()
    env = gateway_env(teacher, str(folder), port) | more
    url = f"http://127.0.0.1:{port}"
    ledger = open_ledger(env["DATABASE_URL"])  # before the gateway: it need not migrate
    with running(["services.strong_model", "gateway"], f"{url}/healthz", env) as process:
        yield Gateway(url, ledger, teacher, process)


def ask(number: object) -> list[Any]:
    return [{"role": "user", "content": f"question {number}"}]


async def one(gateway: Gateway, messages: list[Any], **options):
    async with gateway.client() as client:
        return await client.chat(model=options.pop("model", "default"), messages=messages, max_tokens=50, **options)


def assert_ledger_is_log(gateway: Gateway) -> None:
    """Every request that arrived has a row, and every row arrived; nothing is left open."""
    arrived = {entry["request_id"] for entry in gateway.teacher.log()}
    sent = {row.id: row.outcome for row in gateway.rows() if row.provider not in NOBODY and not row.cached}
    assert len(arrived) == len(gateway.teacher.log())
    assert arrived <= sent.keys()
    # a cancel may come between the row and the sending
    assert {outcome for call_id, outcome in sent.items() if call_id not in arrived} <= {"cancelled"}
    assert all(row.state == "settled" for row in gateway.rows())
