"""What an operator watches, over all projects, counted in the database at this moment."""

import time
from collections import Counter
from typing import NamedTuple

from sqlalchemy import Engine, case, func, select

from shared.contracts.canary import Outcome
from shared.contracts.jobs import JobStatus
from shared.contracts.steps import Queue
from shared.db.engine import reading
from shared.jobs.outbox import DELIVERED, FAILED, PENDING
from shared.jobs.states import ACTIVE_JOBS, StepState
from shared.jobs.tables import canaries, deliveries, jobs, steps, workers

SERVICES = ("orchestrator", "weak_model", "strong_model", "judge", "trainer", "engine")  # those with a heartbeat
DELIVERY_STATES = (PENDING, DELIVERED, FAILED)
TRYING, PASSED = "trying", "fixed"  # a canary that decides; one with a share of its own and no goal
CANARY_STATES = (TRYING, PASSED, *(outcome.value for outcome in Outcome))


class Processes(NamedTuple):
    """alive, lost: by service. slots: by queue, of those alive."""

    alive: Counter[str]
    lost: Counter[str]
    slots: Counter[str]


class Operations:
    def __init__(self, engine: Engine):
        self.engine = engine

    def oldest_ready(self) -> dict[Queue, float]:
        """Seconds that the step which waits longest has been ready, by queue; 0 where none waits."""
        now = time.time()
        begun = func.coalesce(steps.c.started_at, steps.c.created_at)
        ready = case((steps.c.not_before > begun, steps.c.not_before), else_=begun)
        waiting = (
            select(steps.c.queue, func.min(ready))
            .join(jobs, jobs.c.id == steps.c.job_id)
            .where(steps.c.state == StepState.QUEUED, steps.c.not_before <= now, jobs.c.status == JobStatus.RUNNING)
            .group_by(steps.c.queue)
        )
        with reading(self.engine) as connection:
            since = dict(connection.execute(waiting).all())
        return {queue: max(now - since.get(queue, now), 0.0) for queue in Queue}

    def oldest_queued_job(self) -> float:
        """Seconds that the job which waits longest to begin has waited; 0 where none waits."""
        query = select(func.min(jobs.c.created_at)).where(jobs.c.status == JobStatus.QUEUED)
        with reading(self.engine) as connection:
            since = connection.execute(query).scalar()
        return 0.0 if since is None else max(time.time() - since, 0.0)

    def training_speed(self) -> float:
        """Tokens per second of the trainings that run, together."""
        query = select(steps.c.progress).where(steps.c.state == StepState.RUNNING, steps.c.queue == Queue.TRAIN)
        with reading(self.engine) as connection:
            running = [(progress or {}).get("metrics") or {} for progress in connection.execute(query).scalars()]
        return sum(metrics.get("tokens_per_second") or 0.0 for metrics in running)

    def processes(self, silent_s: float, within_s: float) -> Processes:
        """lost: silent for silent_s, without having said that they stop, and seen within within_s."""
        now = time.time()
        query = select(workers.c.service, workers.c.queue, workers.c.slots, workers.c.seen_at, workers.c.stopping)
        counts = Processes(Counter(), Counter(), Counter())
        with reading(self.engine) as connection:
            for service, queue, slots, seen_at, stopping in connection.execute(
                query.where(workers.c.seen_at > now - within_s)
            ):
                if stopping:
                    continue
                if seen_at <= now - silent_s:
                    counts.lost[service] += 1
                    continue
                counts.alive[service] += 1
                if queue:
                    counts.slots[queue] += slots
        return counts

    def deliveries(self) -> dict[str, int]:
        """Webhook messages that are kept, by state."""
        query = select(deliveries.c.state, func.count()).group_by(deliveries.c.state)
        with reading(self.engine) as connection:
            return dict(connection.execute(query).all())

    def canaries(self) -> Counter[str]:
        """By state: one of CANARY_STATES."""
        query = select(canaries.c.rule, canaries.c.outcome)
        with reading(self.engine) as connection:
            rows = connection.execute(query).all()
        return Counter(outcome or (PASSED if rule is None else TRYING) for rule, outcome in rows)

    def active_jobs(self) -> list[str]:
        query = select(jobs.c.id).where(jobs.c.status.in_({*ACTIVE_JOBS, JobStatus.PAUSED}))
        with reading(self.engine) as connection:
            return list(connection.execute(query).scalars())
