"""What people are told of the whole: lost processes, the place of a job that waits, experiments. Reads only."""

import time
from typing import NamedTuple

from sqlalchemy import Engine, Row, func, or_, select

from shared.contracts.errors import UserError
from shared.contracts.experiments import EXPERIMENT
from shared.contracts.jobs import JobStatus
from shared.db.engine import reading
from shared.jobs.job_moves import project_has_room
from shared.jobs.states import ACTIVE_JOBS
from shared.jobs.tables import jobs, steps, workers


class Waiting(NamedTuple):
    """ahead: queued jobs that are taken first. running: seconds that each active job still needs, None where nobody knows.
    room: jobs that the orchestrators which live can hold. project_full: as many of its project are at work as may be."""

    ahead: int
    running: list[float | None]
    room: int
    project_full: bool = False


class Overview:
    def __init__(self, engine: Engine):
        self.engine = engine

    def lost_workers(self, silent_s: float, within_s: float) -> list[Row]:
        """Processes that were last heard of longer ago than silent_s and not as long as within_s, and said no goodbye."""
        now = time.time()
        query = (
            select(workers)
            .where(workers.c.seen_at.between(now - within_s, now - silent_s), workers.c.stopping.is_(False))
            .order_by(workers.c.seen_at)
        )
        with reading(self.engine) as connection:
            return list(connection.execute(query))

    def waiting(self, job: Row, alive_s: float) -> Waiting:
        """job: a queued one. alive_s: an orchestrator that was silent for longer is not counted on."""
        before = or_(jobs.c.created_at < job.created_at, (jobs.c.created_at == job.created_at) & (jobs.c.id < job.id))
        ahead = select(func.count()).where(jobs.c.status == JobStatus.QUEUED, before)
        active = select(jobs.c.progress).where(jobs.c.status.in_(ACTIVE_JOBS))
        living = (workers.c.seen_at > time.time() - alive_s) & workers.c.stopping.is_(False)
        room = select(func.sum(workers.c.slots)).where(workers.c.service == "orchestrator", living)
        full = select(jobs.c.id).where(jobs.c.id == job.id, ~project_has_room())
        with reading(self.engine) as connection:
            return Waiting(
                connection.execute(ahead).scalar_one(),
                [(progress or {}).get("eta_seconds") for (progress,) in connection.execute(active)],
                connection.execute(room).scalar_one() or 0,
                connection.execute(full).first() is not None,
            )

    def count_by_status(self) -> dict[str, int]:
        with reading(self.engine) as connection:
            query = select(jobs.c.status, func.count()).group_by(jobs.c.status)
            return dict(connection.execute(query).tuples().all())

    def count_steps(self) -> dict[tuple[str, str], int]:
        with reading(self.engine) as connection:
            query = select(steps.c.queue, steps.c.state, func.count()).group_by(steps.c.queue, steps.c.state)
            return {(queue, state): n for queue, state, n in connection.execute(query)}

    def experiments(self, project_id: str, after: str | None, limit: int) -> tuple[list[str], bool]:
        """Ids of the experiments that jobs belong to, newest first, and whether there are more.

        Raises UserError for an `after` that does not exist.
        """
        name = jobs.c.request["metadata"][EXPERIMENT].as_string()
        found = select(name.label("id")).where(jobs.c.project_id == project_id, name.is_not(None)).distinct().subquery()
        query = select(found.c.id).order_by(found.c.id.desc()).limit(limit + 1)  # ids are UUIDv7: ordered by time
        with reading(self.engine) as connection:
            if after:
                if connection.execute(select(found.c.id).where(found.c.id == after)).first() is None:
                    raise UserError(f"no experiment {after!r} to continue after", param="after", code="unknown_cursor")
                query = query.where(found.c.id < after)
            ids = list(connection.execute(query).scalars())
        return ids[:limit], len(ids) > limit
