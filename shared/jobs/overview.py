"""Read-only views over many rows: lost processes, a job's place in the queue, counts, experiments."""

import time
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Engine, Select, bindparam, func, select

from shared.contracts.experiments import EXPERIMENT
from shared.contracts.jobs import JobKind, JobProgress, JobRequest, JobStatus, Measured
from shared.db.engine import reading
from shared.db.fetch import fetch_all
from shared.db.paging import keyset_page
from shared.jobs.records import JobRecord, WorkerRecord
from shared.jobs.states import ACTIVE_JOBS
from shared.jobs.tables import jobs, projects, steps, workers


class Waiting(NamedTuple):
    """ahead: queued jobs that start first. running: remaining seconds of each active job, None if unknown. capacity: jobs that
    the live orchestrators run at once. project_full: the project runs as many jobs as it may."""

    ahead: int
    running: list[float | None]
    capacity: int
    project_full: bool = False


class Past(NamedTuple):
    """An earlier job: what it was asked, and what it has measured by kind of step."""

    request: JobRequest
    measured: dict[str, Measured]


class Overview:
    def __init__(self, engine: Engine):
        self.engine = engine

    def lost_workers(self, silent_s: float, within_s: float) -> list[WorkerRecord]:
        """Processes whose last heartbeat is between silent_s and within_s ago and that did not announce their stop."""
        now = time.time()
        query = (
            select(workers)
            .where(workers.c.seen_at.between(now - within_s, now - silent_s), workers.c.stopping.is_(False))
            .order_by(workers.c.seen_at)
        )
        with reading(self.engine) as connection:
            return fetch_all(connection, WorkerRecord, query)

    def processes(self, within_s: float) -> list[WorkerRecord]:
        """All that have sent a heartbeat within this time, those that announced their stop too."""
        query = select(workers).where(workers.c.seen_at > time.time() - within_s)
        with reading(self.engine) as connection:
            return fetch_all(connection, WorkerRecord, query.order_by(workers.c.service, workers.c.id))

    def waiting(self, queued: Sequence[JobRecord], alive_s: float) -> dict[str, Waiting]:
        """By id, in three queries. queued: jobs of that status. alive_s: the age of a live orchestrator's last heartbeat at most."""
        if not queued:
            return {}
        with reading(self.engine) as connection:
            places = connection.execute(_places(), {"ids": [job.id for job in queued]}).all()
            active = connection.execute(_active()).all()
            capacity = connection.execute(_capacity(), {"since": time.time() - alive_s}).scalar_one() or 0
        running = [(progress or {}).get("eta_seconds") for _, progress in active]
        of_project = Counter(project_id for project_id, _ in active)
        return {
            job_id: Waiting(ahead, running, capacity, limit is not None and of_project[project_id] >= limit)
            for job_id, ahead, project_id, limit in places
        }

    def past(self, most: int = 40) -> list[Past]:
        """The newest distillation jobs that have measured something, of all projects."""
        query = select(jobs.c.request, jobs.c.progress).where(jobs.c.kind == JobKind.DISTILLATION)
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(jobs.c.created_at.desc()).limit(most)).all()
        progress = [(request, JobProgress.model_validate(progress or {})) for request, progress in rows]
        return [Past(JobRequest.model_validate(request), one.measured) for request, one in progress if one.measured]

    def count_by_status(self) -> dict[str, int]:
        with reading(self.engine) as connection:
            query = select(jobs.c.status, func.count()).group_by(jobs.c.status)
            return dict(connection.execute(query).all())

    def count_steps(self) -> dict[tuple[str, str], int]:
        with reading(self.engine) as connection:
            query = select(steps.c.queue, steps.c.state, func.count()).group_by(steps.c.queue, steps.c.state)
            return {(queue, state): n for queue, state, n in connection.execute(query)}

    def experiments(self, project_id: str, after: str | None, limit: int) -> tuple[list[str], bool]:
        """Ids of the experiments that jobs belong to, newest first. Raises UserError for an unknown `after`."""
        name = jobs.c.request["metadata"][EXPERIMENT].as_string()
        mine = select(name.label("id")).where(jobs.c.project_id == project_id, name.is_not(None)).distinct().subquery()
        return keyset_page(self.engine, str, select(mine.c.id), mine.c.id, after, limit, "experiment")


# Statements that are built once: building one takes longer than running it.


@lru_cache
def _places() -> Select[str, int, str, int | None]:
    """Of the queued jobs `ids`: id, queued jobs that start first, the project and its limit of active jobs. The queue is counted
    once for all of them."""
    ahead = (func.row_number().over(order_by=(jobs.c.created_at, jobs.c.id)) - 1).label("ahead")
    queue = select(jobs.c.id, ahead).where(jobs.c.status == JobStatus.QUEUED).subquery()
    joined = queue.join(jobs, jobs.c.id == queue.c.id).join(projects, projects.c.id == jobs.c.project_id)
    columns = (jobs.c.id, queue.c.ahead, jobs.c.project_id, projects.c.concurrent_jobs)
    return select(*columns).select_from(joined).where(jobs.c.id.in_(bindparam("ids", expanding=True)))


@lru_cache
def _active() -> Select[str, Any]:
    return select(jobs.c.project_id, jobs.c.progress).where(jobs.c.status.in_(ACTIVE_JOBS))


@lru_cache
def _capacity() -> Select[Any]:
    """Slots of the orchestrators whose last heartbeat came after `since`."""
    living = (workers.c.seen_at > bindparam("since")) & workers.c.stopping.is_(False)
    return select(func.sum(workers.c.slots)).where(workers.c.service == "orchestrator", living)
