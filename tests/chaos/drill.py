"""One job twice, undisturbed and struck again and again; what came of both."""

import json
import os
import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import stamina
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from shared.db.engine import reading
from shared.jobs.states import FINAL_JOBS, StepState
from shared.jobs.tables import steps
from shared.ledger.tables import calls
from tests.chaos.checks import LOSES_ANSWERS
from tests.chaos.fleet import Fleet, marked
from tests.chaos.outcome import Outcome, Struck, collect
from tests.chaos.schedule import Strike, Target, schedule
from tests.fakes.ports import free_port, wait_until
from tests.fakes.start import FakeServer, start_teacher

LEAST_GAP_S = 1.0
LAST_SHARE = 0.9  # the last strike comes when so much of the job is done
TARGETS = [target for target in Target if target is not Target.POSTGRES]


class DrillFailed(AssertionError):
    """The drill itself could not be held as planned."""


@dataclass(frozen=True)
class Plan:
    """job: its `distillation`. teacher_s, engine_s, concurrency: seconds per request and how many at once, which set the pace.
    gap_s: a strike comes at the latest so long after the one before, however little was done meanwhile."""

    seed: int
    kills: int
    questions: int
    job: dict[str, Any]
    database: str = "sqlite"
    teacher_s: float = 2.0
    engine_s: float = 0.8
    concurrency: int = 3
    gap_s: float = 9.0
    limit_s: float = 2400.0
    environment: Mapping[str, str] = field(default_factory=dict)  # of all processes

    @property
    def targets(self) -> list[Target]:
        return TARGETS + ([Target.POSTGRES] if self.database == "postgres" else [])


@contextmanager
def standing(plan: Plan, data: Path, student: Path) -> Generator[tuple[Fleet, FakeServer]]:
    """A fleet that is ready, and its teacher."""
    pace = ["--latency", str(plan.teacher_s), "--concurrency", str(plan.concurrency)]
    with start_teacher(*pace) as teacher:
        environment = {
            "METEOR_STUDENT_MODEL": "tiny",
            "METEOR_STUDENT_PATH": str(student),
            "METEOR_TEACHER_BASE_URL": teacher.base_url,
            "METEOR_TEACHER_MODEL": "fake",
            "METEOR_TRAINER_PROBE": "false",  # nothing here is about what the student can do
            "METEOR_API_PORT": str(free_port()),
            "DRILL_ENGINE_LATENCY": str(plan.engine_s),
            "DRILL_ENGINE_CONCURRENCY": str(plan.concurrency),
            **plan.environment,
        }
        with Fleet(data, environment, plan.database) as fleet:
            yield fleet, teacher


def post(fleet: Fleet, plan: Plan, name: str = "drill") -> str:
    """Upload the questions, which no job of another name has, and start the job; its id."""
    rows = [{"question": f"{name}: which number comes after {i}?", "reference": f"the number is {i + 1}"}
            for i in range(plan.questions)]  # fmt: skip
    content = "\n".join(json.dumps(row) for row in rows).encode()
    with httpx.Client(base_url=fleet.urls["api"], timeout=30) as client:
        answer = client.post("/v1/files", files={"file": ("drill.jsonl", content)}, data={"purpose": "fine-tune"})
        body = {"model": "tiny", "training_file": answer.raise_for_status().json()["id"], "suffix": "drill",
                "seed": plan.seed, "distillation": plan.job}  # fmt: skip
        answer = client.post("/v1/distillation/jobs", json=body)
        if answer.is_error:
            raise DrillFailed(answer.text)
        return answer.json()["id"]


def undisturbed(plan: Plan, data: Path, student: Path) -> Outcome:
    with standing(plan, data, student) as (fleet, teacher):
        return _ended(fleet, teacher, post(fleet, plan), plan.limit_s)


def disturbed(
    plan: Plan, data: Path, student: Path, calm: Outcome, say: Callable[[str], None]
) -> tuple[Outcome, list[str]]:
    """The outcome, and the fleet's processes that were left: those that its guards had lost, and those after its end."""
    with standing(plan, data, student) as (fleet, teacher):
        job_id = post(fleet, plan)
        strikes = schedule(plan.seed, plan.kills, plan.targets)
        struck = Striker(fleet, job_id, plan, calm.finish_times, say).run(strikes)
        outcome = _ended(fleet, teacher, job_id, plan.limit_s)
        outcome.struck, outcome.leftovers = struck, fleet.collect()
        left = [f"no guard has {words}" for words in fleet.strays()]
    return outcome, left + [f"still runs: {' '.join(process.cmdline())}" for process in marked(fleet.mark)]


def _ended(fleet: Fleet, teacher: FakeServer, job_id: str, limit_s: float) -> Outcome:
    """Wait for the job's end, and for the last calls to be settled."""
    wait_until(lambda: job_status(fleet, job_id) in FINAL_JOBS, limit_s, "the job's end")
    wait_until(lambda: open_calls(fleet) == 0, 30, "the settling of the last calls")
    return collect(fleet, job_id, teacher.log())


def job_status(fleet: Fleet, job_id: str) -> str | None:
    try:
        row = fleet.stores.jobs.get(job_id)
    except DBAPIError:  # the database was struck
        return None
    return row.status if row is not None else None


@stamina.retry(on=DBAPIError, timeout=60, attempts=None)
def open_calls(fleet: Fleet) -> int:
    """Calls that were sent, or are about to be, and are not settled."""
    with reading(fleet.ledger.engine) as connection:
        return connection.execute(select(func.count()).where(calls.c.state == "intent")).scalar_one()


class Striker:
    """Strikes as the job goes on: number k of n when about k/n of its work is done, as the undisturbed run has shown."""

    def __init__(
        self, fleet: Fleet, job_id: str, plan: Plan, finish_times: Sequence[float], say: Callable[[str], None]
    ):
        self.fleet = fleet
        self.job_id = job_id
        self.plan = plan
        self.finish_times = finish_times
        self.say = say
        self.began = time.monotonic()
        self.choosy = True
        self.struck: list[Struck] = []

    def run(self, strikes: Sequence[Strike]) -> list[Struck]:
        coming = list(strikes)
        while coming and self._until_due(len(self.struck) / len(strikes)):
            strike = self._next(coming)
            time.sleep(strike.pause_s)
            if not self._strike(strike):
                coming.insert(0, strike)
        return self.struck

    def _until_due(self, share: float) -> bool:
        """Wait for the next strike's time. False: the job has ended before."""
        last = time.monotonic()
        due = share * LAST_SHARE * self.finish_times[-1]
        while time.monotonic() - last < LEAST_GAP_S or (
            time.monotonic() - last < self.plan.gap_s and self._useful() < due
        ):
            time.sleep(0.2)
            if job_status(self.fleet, self.job_id) in FINAL_JOBS:
                return False
            if time.monotonic() - self.began > self.plan.limit_s:
                raise DrillFailed(f"no end after {self.plan.limit_s:.0f} s and {len(self.struck)} strikes")
        return True

    def _useful(self) -> float:
        """Seconds that the undisturbed run had needed for as many steps as are done now."""
        query = select(func.count()).where(steps.c.job_id == self.job_id, steps.c.state == StepState.SUCCEEDED)
        try:
            with reading(self.fleet.stores.steps.engine) as connection:
                done = connection.execute(query).scalar_one()
        except DBAPIError:
            return 0.0
        return self.finish_times[min(done, len(self.finish_times)) - 1] if done else 0.0

    def _next(self, coming: list[Strike]) -> Strike:
        """The first one that finds whom it means, taken out. Strikes that wait for the end of the job are held all the same:
        those at a training meet the trainer, those at the gateway one that has nothing to do."""
        while True:
            next_strike = next((strike for strike in coming if self._finds(strike)), None)
            if next_strike is not None:
                coming.remove(next_strike)
                return next_strike
            if {strike.target for strike in coming} <= {Target.TRAINING, Target.GATEWAY}:
                self.choosy = False
                coming[:] = [
                    replace(strike, target=Target.TRAINER) if strike.target is Target.TRAINING else strike
                    for strike in coming
                ]
            time.sleep(0.2)

    def _finds(self, strike: Strike) -> bool:
        """A training child has to be there; a gateway is killed while it has calls on their way, where that proves something."""
        if not self.fleet.pids(strike):
            return False
        at_work = strike.target is Target.GATEWAY and not strike.freeze_s and self.choosy
        return not at_work or open_calls(self.fleet) > 0

    def _strike(self, strike: Strike) -> bool:
        """False: it was gone before. Where answers may be lost the gateway is held still first, so that the count is exact."""
        gateway = self.fleet.pids(Strike(Target.GATEWAY, 0.0, None, 0.0)) if strike.target in LOSES_ANSWERS else []
        for pid in gateway:
            os.kill(pid, signal.SIGSTOP)
        in_flight = open_calls(self.fleet) if strike.target in LOSES_ANSWERS else 0
        at = time.monotonic() - self.began
        hit = self.fleet.strike(strike)
        self._let_go(gateway)
        if not hit:
            return False
        self.struck.append(Struck(strike, at, in_flight))
        which = "" if strike.slot is None else ", one slot"
        self.say(f"{at:7.1f} s  {len(self.struck):3d}  {strike.target} {strike.deed}{which}")
        return True

    def _let_go(self, pids: Sequence[int]) -> None:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:  # it was the one to be killed
                continue
