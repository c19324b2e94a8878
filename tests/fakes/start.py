"""Starts the fake servers as processes of their own, which die with the test run."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from shared.platform import process_guard
from tests.fakes.loopback import LOOPBACK
from tests.fakes.ports import free_port, wait_until

ROOT = Path(__file__).parents[2]


class FakeServer(NamedTuple):
    """A running fake. url without /v1; base_url with it, as OpenAI's SDK wants it."""

    url: str
    log_file: Path

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def fault(self, kind: str, **options: Any) -> None:
        """rate, times, retry_after, seconds: see tests.fakes.faults.Fault."""
        LOOPBACK.post(f"{self.url}/faults", json={"kind": kind, **options}).raise_for_status()

    def heal(self) -> None:
        LOOPBACK.delete(f"{self.url}/faults").raise_for_status()
        self.set(latency_s=0.0, bears=1_000_000, batch_s=0.0)

    def set(self, **settings: float) -> None:
        """latency_s: seconds per request; bears: requests at once, more are refused; batch_s: seconds until a batch is done."""
        LOOPBACK.post(f"{self.url}/settings", json=settings).raise_for_status()

    def latency(self, seconds: float) -> None:
        self.set(latency_s=seconds)

    def log(self) -> list[dict[str, Any]]:
        """Requests to chat/completions in order of arrival, with what became of each so far."""
        return LOOPBACK.get(f"{self.url}/log").json()

    def batches(self) -> list[dict[str, Any]]:
        """All batches that were ever created, oldest first."""
        return LOOPBACK.get(f"{self.url}/batches").json()["batches"]

    def files(self) -> list[str]:
        """Names of the files that were uploaded or written, and are still there."""
        return LOOPBACK.get(f"{self.url}/batches").json()["files"]

    def logged_lines(self) -> list[dict[str, Any]]:
        """The same as written to the file at arrival; outlives the process."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]


@contextmanager
def running(
    argv: list[str], health: str, env: Mapping[str, str] | None = None, timeout_s: float = 90
) -> Generator[subprocess.Popen]:
    """A Python module as a guarded process, from the time its health route answers. kill() on what it yields is a SIGKILL."""
    child = subprocess.Popen(
        process_guard.command([sys.executable, "-m", *argv]),
        stdin=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | (env or {}),
    )
    try:
        wait_until(lambda: _answers(child, health), timeout_s, f"{argv[0]} at {health}")
        yield child
    finally:
        child.terminate()
        child.wait(20)


@contextmanager
def start_teacher(
    *options: str, module: str = "tests.fakes.teacher", port: int | None = None, address: str = "127.0.0.1"
) -> Generator[FakeServer]:
    """The fake teacher, on a free port unless one is given. options: its command line beyond address, port and log."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="meteor-fake-") as folder:
        server = FakeServer(f"http://{address}:{port}", Path(folder) / "requests.jsonl")
        server.log_file.touch()
        where = ["--address", address] if address != "127.0.0.1" else []
        argv = [module, *where, "--port", str(port), "--log", str(server.log_file), *options]
        with running(argv, f"{server.url}/health"):
            yield server


def start_engine(*options: str):
    """The fake vLLM on a free port."""
    return start_teacher(*options, module="tests.fakes.engine")


def _answers(child: subprocess.Popen, url: str) -> bool:
    if child.poll() is not None:
        raise AssertionError(f"the process ended with {child.returncode} before it answered at {url}")
    try:
        return LOOPBACK.get(url, timeout=1).status_code == 200
    except httpx.TransportError:
        return False
