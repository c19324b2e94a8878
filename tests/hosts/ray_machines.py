"""A Ray cluster over the hosts: its head stands beside the shared services and trains nothing, and each host is a machine of it."""

import contextlib
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from services.local.supervisor.processes import family
from shared.platform.guarded_process import GuardedProcess
from tests.fakes import ray_cluster
from tests.hosts.network import SERVICES, Network

PORTS = {"port": 6379, "dashboard-port": 8265, "dashboard-agent-listen-port": 52365, "ray-client-server-port": 10001}
HEAD = ["--num-cpus=0", f"--node-ip-address={SERVICES}", f"--dashboard-host={SERVICES}"]
STOP_S = 20.0
# A machine that was cut off for longer than the cluster waits has to join again.
AGAIN = 'while :; do "$@"; sleep 1; done'


@contextmanager
def running_cluster(environment: Mapping[str, str]) -> Generator[dict[str, str]]:
    """What the hosts' trainers are told. environment: of the head."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        told = dict(environment) | ray_cluster.PATIENT
        with ray_cluster.running_head(Path(folder), told, PORTS, HEAD, SERVICES) as dashboard:
            yield {
                "METEOR_TRAINER_LAUNCHER": "ray",
                "METEOR_TRAINER_RAY_ADDRESS": dashboard,
                "METEOR_TRAINER_RAY_GPUS": "0",
                "METEOR_TRAINER_RAY_SLOTS": "1",
                "METEOR_TRAINER_RAY_PYTHON": sys.executable,
            }


class RayMachine:
    """One host as a machine of the cluster, with room for one training. data: the host's folder; the trainings get one in it."""

    def __init__(self, host: str, network: Network, data: Path, environment: Mapping[str, str]):
        self.data = data / "ray"
        joined = [f"--address={SERVICES}:{PORTS['port']}", f"--node-ip-address={network.address(host)}", "--num-cpus=1"]
        joined += [f"--temp-dir={data}/r"]  # of its own, as on a machine of its own; short, for the paths of sockets
        self._argv = [*network.inside(host), "sh", "-c", AGAIN, "sh", *ray_cluster.start(*joined)]
        self._environment = dict(environment) | ray_cluster.PATIENT | {
            "METEOR_DATA": str(self.data), "METEOR_DISK_FLOOR_GB": "0", "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        self._log = data / "logs" / "ray.log"
        self._running: GuardedProcess | None = None

    def start(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as out:
            self._running = GuardedProcess(self._argv, self._environment, stdout=out)

    def kill(self) -> None:
        if self._running is not None:
            for process in family(self._running.pid):
                with contextlib.suppress(Exception):
                    process.kill()
            self._running.wait(STOP_S)
            self._running.hang_up()
            self._running = None

    def stop(self) -> None:
        if self._running is not None:
            self._running.end(STOP_S)
            self._running = None
