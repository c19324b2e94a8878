"""Three hosts, several jobs, and strikes meanwhile: what is done, and what came of it."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text

from shared.db.engine import reading
from shared.jobs.tables import jobs
from shared.ledger.tables import calls
from shared.platform.settings import PlatformSettings
from shared.queue.lifecycle import CLEAR_SCRATCH_S
from tests.chaos.fleet import START_S, marked
from tests.chaos.outcome import Outcome, read_outcome
from tests.fakes.ports import wait_until
from tests.hosts.availability import Availability, Prober
from tests.hosts.client import Client
from tests.hosts.fleet import HOSTS, OPERATOR, Fleet, Plan, Struck, standing
from tests.hosts.services import SharedServices
from tests.hosts.strikes import host_schedule


@dataclass
class Drill:
    """calm, disturbed: by job, in order of posting. log: what the teacher saw arrive of the struck project."""

    calm: list[Outcome] = field(default_factory=list)
    disturbed: list[Outcome] = field(default_factory=list)
    posted: int = 0
    listed: int = 0
    struck: list[Struck] = field(default_factory=list)
    availability: Availability = field(default_factory=Availability)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, list[str]] = field(
        default_factory=dict
    )  # by served version: the hosts whose api answered for it
    left: list[str] = field(default_factory=list)  # processes and files that should be gone
    connections: int = 0  # of the database, at most

    @property
    def in_flight(self) -> int:
        return sum(item.in_flight for item in self.struck)


def hold(plan: Plan, work: Path, student: Path, say: Callable[[str], None]) -> Drill:
    """The undisturbed jobs, then the struck ones; everything that the checks need is read before the hosts stop."""
    drill, mark, began = Drill(), work.name, time.monotonic()
    with standing(plan, work, student, mark, say) as fleet:
        say(f"three hosts stand after {time.monotonic() - began:.0f} s; now {plan.twins} jobs undisturbed")
        operator = Client(fleet.urls, OPERATOR)
        calm, struck = _project(operator, "calm"), _project(operator, "struck")
        undisturbed = Client(fleet.urls, calm[1])
        ids = [undisturbed.start_job(f"twin-{n}", plan.questions, plan.seed, plan.job) for n in range(plan.twins)]
        _ended(fleet, plan, calm[0])
        first = fleet.shared.stores.jobs.get(ids[0])
        served = first.fine_tuned_model if first is not None else None
        if served is None:
            raise RuntimeError(f"the undisturbed job made no version: {first}")
        say(f"undisturbed: done; {served} is asked all the while. Now {plan.strikes} strikes")
        user = Client(fleet.urls, struck[1])
        began = fleet.began = time.monotonic()
        with Prober(fleet.urls, calm[1], served) as prober:
            posted = _struck(fleet, plan, user, struck[0], drill)
            fleet.heal_all()
            _ended(fleet, plan, struck[0])
        say(f"all {len(posted)} struck jobs have ended after {time.monotonic() - began:.0f} s")
        drill.availability, drill.struck, drill.posted = prober.seen, fleet.struck, len(posted)
        _read(fleet, drill, work, (calm[0], ids), (struck[0], posted), user)
    drill.left += [
        f"still runs: {' '.join(process.cmdline())}" for process in marked(mark) if process.pid != os.getpid()
    ]
    return drill


def _project(operator: Client, name: str) -> tuple[str, str]:
    """(id, key)"""
    project = operator.post("/v1/projects", json={"name": name})["id"]
    key = operator.post(
        "/v1/keys", json={"name": name, "project": project, "scopes": ["chat", "jobs", "files", "admin"]}
    )
    return project, key["key"]


def _struck(fleet: Fleet, plan: Plan, user: Client, project: str, drill: Drill) -> list[str]:
    """Strike after strike; as many jobs as the plan wants run until the last one. The ids of the jobs."""
    posted: list[str] = []
    coming = host_schedule(plan.seed, plan.strikes, HOSTS, plan.ray)
    deadline = time.monotonic() + plan.limit_s
    while coming:
        while fleet.active(project) < plan.at_once:
            posted.append(user.start_job(f"twin-{len(posted)}", plan.questions, plan.seed, plan.job))
        time.sleep(coming[0].pause_s)
        done = next((strike for strike in coming if fleet.strike(strike)), None)
        if done is not None:
            coming.remove(done)
        drill.connections = max(drill.connections, _connections(fleet.shared))
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(coming)} strikes were left after {plan.limit_s:.0f} s")
    return posted


def _connections(shared: SharedServices) -> int:
    with reading(shared.stores.jobs.engine) as connection:
        return connection.execute(text("SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres'")).scalar_one()


def _ended(fleet: Fleet, plan: Plan, project: str) -> None:
    wait_until(lambda: fleet.active(project) == 0, plan.limit_s, "the end of all jobs")
    wait_until(lambda: fleet.open_calls() == 0, 60, "the settling of the last calls")


def _read(
    fleet: Fleet, drill: Drill, work: Path, calm: tuple[str, list[str]], struck: tuple[str, list[str]], user: Client
) -> None:
    shared, log = fleet.shared, fleet.shared.teacher.log()
    with tempfile.TemporaryDirectory(prefix="fourth-host-", dir=work) as folder:
        settings = PlatformSettings(data=Path(folder))
        artifacts = shared.artifacts(settings)
        drill.calm = [read_outcome(shared.stores, shared.ledger, artifacts, job, []) for job in calm[1]]
        drill.disturbed = [read_outcome(shared.stores, shared.ledger, artifacts, job, []) for job in struck[1]]
    with reading(shared.ledger.engine) as connection:
        rows: list[dict[str, Any]] = [dict(row._mapping) for row in connection.execute(select(calls))]
        drill.listed = connection.execute(
            select(func.count()).select_from(jobs).where(jobs.c.project_id == struck[0])
        ).scalar_one()
    others = {row["id"] for row in rows if row["project_id"] != struck[0]}
    drill.ledger = [row for row in rows if row["project_id"] == struck[0]]
    drill.log = [entry for entry in log if entry["request_id"] not in others]
    wait_until(lambda: all(host.ready for host in fleet.hosts.values()), START_S, "all hosts after the strikes")
    for outcome in drill.disturbed:
        model = outcome.job["fine_tuned_model"]
        if model:
            drill.answers[model] = [name for name, host in fleet.hosts.items() if user.chat(host.url, model)]
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not _scratch(fleet), 3 * CLEAR_SCRATCH_S)
    drill.left += [f"left behind: {path}" for path in _scratch(fleet)]


def _scratch(fleet: Fleet) -> list[Path]:
    return [path for host in fleet.hosts.values() for path in host.scratch()]
