"""A running METEOR for the clients: all services and the real engine with a small student, in a temporary folder. No teacher."""

import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from services.local.supervisor.runner import Runner
from tests.fakes.ports import free_port, wait_until

STUDENT = "smollm2-135m-instruct"
KEY = "key-of-the-clients"
READY_S = 900


@dataclass(frozen=True)
class Server:
    """url: of the API, without /v1."""

    url: str
    key: str
    model: str


@contextmanager
def running_system() -> Generator[Server]:
    with tempfile.TemporaryDirectory(prefix="meteor-clients-") as folder:
        environment = {
            "METEOR_STUDENT_MODEL": STUDENT,
            "METEOR_STUDENT_PATH": _student(),
            "METEOR_API_KEYS": KEY,
            "METEOR_API_PORT": str(free_port()),
            "METEOR_TEACHER_BASE_URL": f"http://127.0.0.1:{free_port()}/v1",  # nobody listens there, and nobody asks
            "METEOR_TEACHER_MODEL": "nobody",
            "METEOR_TEACHER_API_KEY": "none",
        }
        with Runner(Path(folder) / "run", environment) as runner:
            runner.start(wait_s=None)
            runner.wait_ready(READY_S)
            url = runner.urls["api"]
            wait_until(lambda: httpx.get(f"{url}/readyz", trust_env=False).status_code == 200, 60, "the API")
            yield Server(url, KEY, STUDENT)


def _student() -> str:
    """The folder of the student's weights, which are prepared where they are missing."""
    local = [sys.executable, "-m", "services.local", "models"]
    subprocess.run([*local, "pull", STUDENT], check=True)
    return subprocess.run([*local, "path", STUDENT], check=True, capture_output=True, text=True).stdout.strip()
