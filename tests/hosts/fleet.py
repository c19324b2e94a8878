"""The hosts that are struck, and the hands to strike them."""

import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import stamina
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from shared.db.engine import reading
from shared.jobs.states import FINAL_JOBS
from shared.jobs.tables import jobs
from shared.ledger.tables import calls
from tests.chaos.fleet import MARK, PATIENT, STANDIN, START_S
from tests.chaos.jobs import SHORT
from tests.chaos.schedule import Strike, Target
from tests.fakes.ports import wait_until
from tests.fakes.start import ROOT
from tests.hosts.host import Host
from tests.hosts.network import Network
from tests.hosts.ray_machines import RayMachine, running_cluster
from tests.hosts.services import SharedServices, shared_services
from tests.hosts.strikes import LEASE_S, Deed, HostStrike

HOSTS = ("host-a", "host-b", "host-c")
OPERATOR = "operator-key"
GATEWAY = Strike(Target.GATEWAY, 0.0, None, 0.0)


@dataclass(frozen=True)
class Plan:
    """twins: jobs that run undisturbed first, in a project of their own; the first struck jobs have the same questions.
    at_once: struck jobs that run at the same time while there are strikes. ray: a Ray cluster of all hosts trains."""

    seed: int
    strikes: int
    twins: int = 2
    at_once: int = 3
    questions: int = 40
    job: dict[str, Any] = field(default_factory=lambda: SHORT)
    teacher_s: float = 1.5
    engine_s: float = 0.4
    concurrency: int = 4
    limit_s: float = 3600.0
    ray: bool = False


@dataclass
class Struck:
    """in_flight: calls to the teacher whose answers the strike may have lost."""

    strike: HostStrike
    at: float
    in_flight: int


class Fleet:
    """The hosts, and hands to strike them. say: told each strike."""

    def __init__(self, shared: SharedServices, hosts: dict[str, Host], say: Callable[[str], None]):
        self.shared, self.hosts, self.say = shared, hosts, say
        self.began = time.monotonic()
        self.struck: list[Struck] = []
        self._away: dict[str, threading.Timer] = {}

    @property
    def urls(self) -> list[str]:
        return [host.url for host in self.hosts.values()]

    def strike(self, strike: HostStrike) -> bool:
        """False: it cannot be done now."""
        host = self.hosts[strike.host]
        if strike.deed is not Deed.PROCESS and not self._others_well(strike.host):
            return False
        if strike.deed is Deed.PROCESS and strike.host in self._away:
            return False
        in_flight, at = 0, time.monotonic() - self.began
        if strike.deed is Deed.CUT:
            host.network.cut(strike.host)
            in_flight = self.open_calls(strike.host)
            self._away[strike.host] = timer = threading.Timer(strike.cut_s, self._heal, [strike.host])
            timer.start()
        elif strike.deed is Deed.POWER:
            in_flight = self._hold_gateway(host)
            host.power_off()
            host.start()
        else:
            assert strike.process is not None
            if strike.process.target is Target.GATEWAY:
                in_flight = self._hold_gateway(host)
            if not host.strike(strike.process):
                return False
        self.struck.append(Struck(strike, at, in_flight))
        self.say(f"{at:7.1f} s  {len(self.struck):3d}  {strike.words}")
        return True

    def _others_well(self, name: str) -> bool:
        """At most one host is away at a time: that is what three of them are good for."""
        return not self._away and all(host.ready for other, host in self.hosts.items() if other != name)

    def _heal(self, name: str) -> None:
        self.hosts[name].network.heal(name)
        self._away.pop(name, None)

    def heal_all(self) -> None:
        for timer in list(self._away.values()):
            timer.join()

    def _hold_gateway(self, host: Host) -> int:
        """Its gateway stands still, so that the calls which it has in flight can be counted; how many."""
        for pid in host.pids(GATEWAY):
            os.kill(pid, signal.SIGSTOP)
        return self.open_calls(host.name)

    def open_calls(self, host: str | None = None) -> int:
        """Calls that are sent and not settled, of one host's gateway or of all."""
        return _open_calls(self.shared, host)

    def active(self, project: str) -> int:
        """Its jobs that have not ended."""
        query = select(func.count()).where(jobs.c.project_id == project, jobs.c.status.not_in(FINAL_JOBS))
        with reading(self.shared.stores.jobs.engine) as connection:
            return connection.execute(query).scalar_one()


@stamina.retry(on=DBAPIError, timeout=60, attempts=None)
def _open_calls(shared: SharedServices, host: str | None) -> int:
    query = select(func.count()).where(calls.c.state == "intent")
    if host is not None:
        query = query.where(calls.c.gateway.startswith(f"{host}:"))
    with reading(shared.ledger.engine) as connection:
        return connection.execute(query).scalar_one()


@contextmanager
def standing(plan: Plan, work: Path, student: Path, mark: str, say: Callable[[str], None]) -> Generator[Fleet]:
    """All hosts, ready."""
    with ExitStack() as stack:
        network = stack.enter_context(Network(HOSTS))
        shared = stack.enter_context(shared_services(plan.teacher_s, plan.concurrency))
        os.environ |= shared.environment  # the checks read the object storage as a host does
        environment = os.environ | PATIENT | {
            "METEOR_LEASE": f"PT{LEASE_S}S",
            "METEOR_RENEW": "PT1.5S",
            "METEOR_INTERNAL_TOKEN": "internal",
            "METEOR_API_KEYS": OPERATOR,
            "METEOR_API_KEY_SECRET": "pepper-of-all-hosts",
            "METEOR_API_WEBHOOK_KEY": "webhook-key-of-all-hosts",
            "METEOR_KEY_PREFIX": "hosts:",
            "METEOR_STUDENT_MODEL": "tiny",
            "METEOR_STUDENT_PATH": str(student),
            "METEOR_TRAINER_PROBE": "false",
            "DRILL_ENGINE_LATENCY": str(plan.engine_s),
            "DRILL_ENGINE_CONCURRENCY": str(plan.concurrency),
            "PYTHONPATH": os.pathsep.join([str(STANDIN), str(ROOT)]),
            MARK: mark,
        }  # fmt: skip
        machines: dict[str, RayMachine] = {}
        if plan.ray:
            machines = {name: RayMachine(name, network, work / name, environment) for name in HOSTS}
            environment |= stack.enter_context(running_cluster(environment))
        hosts = {name: Host(name, network, work / name, environment, machines.get(name)) for name in HOSTS}
        for host in hosts.values():
            stack.callback(host.stop)
            host.start()
        wait_until(lambda: all(host.ready for host in hosts.values()), START_S, "all hosts")
        yield Fleet(shared, hosts, say)
