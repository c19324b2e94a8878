"""One host: all services but the shared ones, under the local runner's own supervision, in a network namespace of its own."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path

from services.local.supervisor.processes import family
from shared.platform import run_state
from shared.platform.guarded_process import GuardedProcess
from tests.chaos.fleet import hit, owner_of, struck_pids
from tests.chaos.schedule import Strike
from tests.hosts.network import Network
from tests.hosts.ray_machines import RayMachine

API_PORT = 8000
STOP_S = 15.0


class Host:
    """data: its own folder. environment: whole, of all its processes. machine: of a Ray cluster, which it also is."""

    def __init__(
        self,
        name: str,
        network: Network,
        data: Path,
        environment: Mapping[str, str],
        machine: RayMachine | None = None,
    ):
        self.name, self.network, self.data, self.machine = name, network, data, machine
        self.environment = dict(environment) | {"METEOR_API_PORT": str(API_PORT), "METEOR_API_HOST": "0.0.0.0"}
        self._supervisor: GuardedProcess | None = None

    @property
    def url(self) -> str:
        return f"http://{self.network.address(self.name)}:{API_PORT}"

    def start(self) -> None:
        log = self.data / "logs" / "supervisor.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        argv = [*self.network.inside(self.name), sys.executable, "-m", "services.local.supervisor.main", str(self.data)]
        with log.open("ab") as out:
            self._supervisor = GuardedProcess(argv, self.environment, stdout=out)
        if self.machine is not None:
            self.machine.start()

    @property
    def pid(self) -> int | None:
        """Of the guard of its supervisor."""
        return self._supervisor.pid if self._supervisor else None

    @property
    def ready(self) -> bool:
        state = run_state.read(self.data)
        if self._supervisor is not None and self._supervisor.exit_code is not None:
            raise RuntimeError(f"{self.name} does not run: see {self.data / 'logs' / 'supervisor.log'}")
        return state is not None and state.alive and state.ready

    def pids(self, strike: Strike) -> list[int]:
        """Whom a strike means on this host just now."""
        state = run_state.read(self.data)
        guards = {row.name: row.pid for row in state.processes} if state is not None and state.alive else {}
        return struck_pids(strike, guards.get(owner_of(strike.target)))

    def strike(self, strike: Strike) -> bool:
        return hit(strike, self.pids(strike))

    def power_off(self) -> None:
        """SIGKILL to everything on it at once; its data folder stays."""
        assert self._supervisor is not None
        for process in family(self._supervisor.pid):
            with contextlib.suppress(Exception):
                process.kill()
        if self.machine is not None:
            self.machine.kill()
        self._supervisor.wait(STOP_S)
        self._supervisor.hang_up()
        self._supervisor = None

    def scratch(self) -> list[Path]:
        """What steps have left in its folders."""
        folders = [self.data] if self.machine is None else [self.data, self.machine.data]
        return [path for folder in folders for path in (folder / "scratch").glob("*")]

    def stop(self) -> None:
        if self.machine is not None:
            self.machine.stop()
        if self._supervisor is not None:
            self._supervisor.end(STOP_S)
            self._supervisor = None
