"""All of METEOR as processes under the local runner's own supervision, and the hands to strike them."""

import os
import re
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import psutil
import psycopg

from services.local.supervisor.plan import HERE, make_plan, migrate
from services.local.supervisor.processes import Child, ProcessSpec, family
from shared.artifacts.store import Artifacts
from shared.db.engine import engine_for
from shared.jobs.retention import GRACE_S, collect
from shared.jobs.schema import Stores, stores_on
from shared.ledger.store import Ledger
from shared.platform.settings import PlatformSettings
from tests.chaos.schedule import LEASE_S, Strike, Target
from tests.fakes.ports import wait_until

STANDIN = Path(__file__).parent / "standin"
MARK = "DRILL_RUN"  # in the environment of every process of a fleet, and of all that these start
START_S, STOP_S = 300.0, 20.0
PATIENT = {  # leases and pauses as short as the drill needs them; attempts without end, for no step may fail of being struck
    "METEOR_LEASE": f"PT{LEASE_S}S",
    "METEOR_RENEW": "PT1S",
    "METEOR_RESEND_AFTER": "PT5S",
    "METEOR_MAX_ATTEMPTS": "1000",
    "METEOR_WEAK_SLOTS": "2",
    "METEOR_STRONG_SLOTS": "2",
    "METEOR_JUDGE_SLOTS": "2",
    "METEOR_STRONG_BATCH_WINDOW": "PT1S",
    "METEOR_STRONG_BATCH_POLL": "PT1S",
    "METEOR_TRAINER_CHECKPOINT_STEPS": "3",
    "METEOR_TRAINER_THREADS": "1",  # two that wait for each other are slow beside ten other processes
    "METEOR_ENGINE_PAUSE": "PT0.5S",
    "METEOR_ENGINE_MAX_PAUSE": "PT2S",
    "METEOR_ENGINE_MAX_MODEL_LEN": "512",
}


class Fleet:
    """One run on one data folder. database: sqlite or postgres. environment: on top of this process's and PATIENT."""

    def __init__(self, data: Path, environment: Mapping[str, str], database: str = "sqlite"):
        self.data = data
        self.database = database
        self.mark = uuid.uuid4().hex
        self.environment = dict(os.environ) | PATIENT | dict(environment) | {MARK: self.mark}
        self.children: dict[str, Child] = {}
        self.urls: dict[str, str] = {}
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="fleet", daemon=True)
        self._sockets: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> "Fleet":
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def stores(self) -> Stores:
        return stores_on(self._url("meteor"))

    @property
    def ledger(self) -> Ledger:
        return Ledger(engine_for(self._url("ledger")))

    def _url(self, name: str) -> str:
        return self.environment.get("DATABASE_URL") or f"sqlite:///{(self.data / name).resolve()}.sqlite3"

    def _start(self) -> None:
        if self.database == "postgres":
            self._start_postgres()
        plan = make_plan(self.data, None, self.environment)
        migrate(plan)
        self.urls = plan.urls
        for spec in plan.specs:
            if spec.name == Target.ENGINE:
                spec.env["PYTHONPATH"] = os.pathsep.join([str(STANDIN), spec.env["PYTHONPATH"]])
            self._launch(spec)
            if spec.name == Target.BROKER:  # first and alone: everything else connects to it at once
                wait_until(lambda: self._ready(Target.BROKER), START_S, "the broker")
        self._watcher.start()
        wait_until(lambda: all(child.state == "ready" for child in self.children.values()), START_S, "the fleet")

    def _start_postgres(self) -> None:
        self._sockets = tempfile.TemporaryDirectory(prefix="meteor-pg-", ignore_cleanup_errors=True)
        argv = [sys.executable, "-m", "tests.fakes.postgres", f"{self._sockets.name}/data"]
        env = self.environment | {"PYTHONPATH": str(HERE)}
        child = self._launch(ProcessSpec(Target.POSTGRES, argv, env, lambda _: self._connects()))
        url = re.compile("^postgresql://.+", re.MULTILINE)  # among what else a start says
        wait_until(lambda: url.search(child.log_file.read_text()), START_S, "PostgreSQL")
        self.environment["DATABASE_URL"] = url.findall(child.log_file.read_text())[0]

    def _connects(self) -> bool:
        url = self.environment.get("DATABASE_URL")
        try:
            return url is not None and psycopg.connect(url, connect_timeout=2).close() is None
        except psycopg.OperationalError:
            return False

    def _launch(self, spec: ProcessSpec) -> Child:
        child = self.children[spec.name] = Child(spec, self.data / "logs" / f"{spec.name}.log")
        child.start()
        return child

    def _ready(self, name: str) -> bool:
        self.children[name].poll()
        return self.children[name].state == "ready"

    def _watch(self) -> None:
        while not self._stopping.wait(0.25):
            for child in self.children.values():
                child.poll()

    def stop(self) -> None:
        """In order, as `meteor down` does: the broker and the database last."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        last = [child for name, child in self.children.items() if name in (Target.BROKER, Target.POSTGRES)]
        for group in ([child for child in self.children.values() if child not in last], last):
            for child in group:
                child.ask_to_stop()
            deadline = time.monotonic() + STOP_S
            for child in group:
                if not child.wait(deadline):
                    child.kill()
                    child.wait(time.monotonic() + 1.0)
        if self._sockets is not None and not self._stopped_elsewhere():
            self._sockets.cleanup()

    def _stopped_elsewhere(self) -> bool:
        return any(child.pid and family(child.pid) for child in self.children.values())

    def strays(self) -> list[str]:
        """Processes of this fleet that do not stand under one of its guards, by their command line."""
        kept = {pid for child in self.children.values() for pid in child.pids}
        return [" ".join(process.cmdline()) for process in marked(self.mark) if process.pid not in kept]

    def collect(self) -> int:
        """Remove what killed writers left half-written, as the orchestrator's collector does an hour later; how many files."""
        left = [path for folder in ("artifacts", "serving", "logs") for path in (self.data / folder).rglob(".tmp-*")]
        long_ago = time.time() - 2 * GRACE_S
        for path in left:
            os.utime(path, (long_ago, long_ago))
        settings = PlatformSettings.model_validate({"data": self.data, "database_url": self._url("meteor")})
        collect(self.stores.retention, Artifacts(self.data / "artifacts"), settings)
        return len(left)

    # strikes

    def pids(self, strike: Strike) -> list[int]:
        """Whom a strike means just now; empty when there is nobody (a training child, where nothing is trained)."""
        return struck_pids(strike, self.children[owner_of(strike.target)].pid)

    def kill(self, name: str) -> None:
        """SIGKILL to a service itself; its guard takes the rest along, and the supervision starts it anew."""
        guard = self.children[name].pid
        assert guard is not None
        _signal(family(guard)[1].pid, signal.SIGKILL)

    def strike(self, strike: Strike) -> bool:
        """False: nobody was there to be struck."""
        return hit(strike, self.pids(strike))


def owner_of(target: Target) -> Target:
    """The supervised process below which a target is looked for."""
    return {Target.TRAINING: Target.TRAINER, Target.VLLM: Target.ENGINE}.get(target, target)


def struck_pids(strike: Strike, guard: int | None) -> list[int]:
    """guard: of the target's owner. Whom the strike means just now."""
    below = family(guard)[1:] if guard else []
    module = {Target.TRAINING: "services.trainer.train", Target.VLLM: "vllm.entrypoints.openai.api_server"}
    if strike.target in module:
        return [process.pid for process in below if _runs(process, module[strike.target])]
    if strike.slot is not None and len(below) > 1:
        slots = [process.pid for process in below[0].children()]
        return [slots[strike.slot % len(slots)]] if slots else []
    # a kill is for the service itself: the rest is its guard's to end. Frozen are all.
    return [process.pid for process in (below if strike.freeze_s else below[:1])]


def hit(strike: Strike, pids: list[int]) -> bool:
    """False: nobody was there. A freeze is over when this returns."""
    struck = [_signal(pid, signal.SIGSTOP if strike.freeze_s else signal.SIGKILL) for pid in pids]
    if strike.freeze_s and any(struck):
        time.sleep(strike.freeze_s)
        for pid in pids:
            _signal(pid, signal.SIGCONT)
    return any(struck)


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _runs(process: psutil.Process, module: str) -> bool:
    try:
        return process.cmdline()[1:3] == ["-m", module]
    except psutil.NoSuchProcess:
        return False


def marked(mark: str) -> list[psutil.Process]:
    """All processes that were started, however indirectly, with this mark; those that have ended and wait aside."""
    processes = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                processes.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return processes
