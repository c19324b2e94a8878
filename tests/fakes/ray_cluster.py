"""A real Ray by its own program: a head, and machines that join it, each a guarded process of `ray start`."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from shared.platform import process_guard, ray_api
from tests.fakes.loopback import LOOPBACK
from tests.fakes.ports import wait_until

START_S = 900.0
MISSING = "Ray is an extra: pip install --no-deps -r requirements/ray.lock"
# On a busy machine each of Ray's processes takes minutes to load.
PATIENT = {
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "900",
    "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "600",
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_agent_register_timeout_ms": "900000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_memory_monitor_refresh_ms": "0",  # it would end our job for the memory that others take
}
LEAN = ["--block", "--disable-usage-stats", "--num-gpus=0", "--object-store-memory=80000000"]
LEAN += ["--min-worker-port=0", "--max-worker-port=0"]


def program() -> str | None:
    """`ray`, beside this Python or on the PATH."""
    return shutil.which("ray", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))


def start(*options: str) -> list[str]:
    """The command of a head or of a machine that joins."""
    ray = program()
    assert ray is not None, MISSING
    return [ray, "start", *LEAN, *options]


@contextmanager
def running_head(
    folder: Path, environment: Mapping[str, str], ports: Mapping[str, int], options: Sequence[str], address: str
) -> Generator[str]:
    """The dashboard's address, once a machine takes jobs or, with no CPU of its own, once the dashboard answers.

    ports: by the name of ray's option. address: where it listens.
    """
    named = [f"--{name}={number}" for name, number in ports.items()]
    command = start("--head", f"--temp-dir={folder}/r", *named, *options)
    with (folder / "log").open("wb") as log:
        head = subprocess.Popen(
            process_guard.command(command), env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    dashboard = f"http://{address}:{ports['dashboard-port']}"
    try:
        wait_until(lambda: isinstance(ray_api.version(dashboard), str), START_S, "the dashboard of Ray")
        yield dashboard
    finally:
        head.terminate()
        head.wait(60)


def takes_jobs(dashboard: str) -> bool:
    """Some time after the dashboard answers."""
    answer = LOOPBACK.post(f"{dashboard}{ray_api.JOBS}", json={"entrypoint": "true"}, timeout=60)
    return answer.is_success
