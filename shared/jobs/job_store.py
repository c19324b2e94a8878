"""Every move of a job and its events, one short transaction each. `states.JOB_MOVES` says which moves exist."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, Row, and_, or_, select, update

from shared.contracts.distillation import Budget
from shared.contracts.errors import BudgetExceeded, Conflict, ErrorBody, UserError
from shared.contracts.jobs import AnyRequest, ForkedFrom, JobKind, JobRequest, JobStatus, budget_of, with_budget
from shared.db.engine import reading, upsert, writing
from shared.jobs.job_moves import Prices, insert_job, may_begin, move_to, say, still_has_room, why_not
from shared.jobs.states import ACTIVE_JOBS, FINAL_JOBS, RESTING_JOBS, sources
from shared.jobs.step_moves import cancel_steps, give_back_steps
from shared.jobs.tables import events, jobs, workers

ASKED_TO_PAUSE = "paused by request; resume it to go on"
# How a status reason begins: the job pauses, or has paused, of its budget; and it will go on, for that was raised meanwhile.
OVER_BUDGET, RAISED = f"{BudgetExceeded.code}: ", "budget raised: "


class JobStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def create(
        self,
        project_id: str,
        request: AnyRequest,
        prices: Prices = None,
        forked_from: ForkedFrom | None = None,
        key_id: str | None = None,
    ) -> Row:
        """key_id: the API key that posts it."""
        with writing(self.engine) as connection:
            return insert_job(connection, project_id, request, prices, forked_from, key_id)

    def create_all(
        self, project_id: str, requests: Sequence[JobRequest], prices: Prices = None, key_id: str | None = None
    ) -> list[Row]:
        """All of them or none. prices: by provider, as they are today; None where they are not known."""
        with writing(self.engine) as connection:
            return [insert_job(connection, project_id, request, prices, key_id=key_id) for request in requests]

    def get(self, job_id: str, project_id: str | None = None, kind: JobKind | None = None) -> Row | None:
        """None: from inside the system; else another project's or kind's job is as good as absent."""
        query = select(jobs).where(jobs.c.id == job_id)
        if project_id is not None:
            query = query.where(jobs.c.project_id == project_id)
        if kind is not None:
            query = query.where(jobs.c.kind == kind)
        with reading(self.engine) as connection:
            return connection.execute(query).first()

    def page(
        self,
        project_id: str,
        after: str | None,
        limit: int,
        status: str | None = None,
        metadata: Mapping[str, str] | None = None,
        kind: JobKind = JobKind.DISTILLATION,
    ) -> tuple[list[Row], bool]:
        """Newest first; metadata: pairs that a job must have. Raises UserError for an `after` that does not exist."""
        mine = (jobs.c.project_id == project_id) & (jobs.c.kind == kind)
        query = select(jobs).where(mine)
        if status:
            query = query.where(jobs.c.status == status)
        for name, value in (metadata or {}).items():
            query = query.where(jobs.c.request["metadata"][name].as_string() == value)
        with reading(self.engine) as connection:
            if after:
                last = connection.execute(
                    select(jobs.c.id).where(mine, jobs.c.id == after)
                ).first()  # whatever its status
                if last is None:
                    raise UserError(f"no job {after!r} to continue after", param="after", code="unknown_cursor")
                query = query.where(jobs.c.id < after)  # ids are UUIDv7: ordered by time
            rows = list(connection.execute(query.order_by(jobs.c.id.desc()).limit(limit + 1)))
        return rows[:limit], len(rows) > limit

    def claim(self, owner: str, lease_s: float) -> Row | None:
        """Take the oldest job that nobody runs: a queued one, or an active one whose orchestrator was lost."""
        now = time.time()
        with writing(self.engine) as connection:
            free = or_(
                may_begin(),
                and_(jobs.c.status.in_(ACTIVE_JOBS), or_(jobs.c.lease_expires.is_(None), jobs.c.lease_expires < now)),
            )
            query = select(jobs).where(free).order_by(jobs.c.created_at).limit(1).with_for_update(skip_locked=True)
            row = connection.execute(query).first()
            if row is None or (row.status == JobStatus.QUEUED and not still_has_room(connection, row)):
                return None
            status = JobStatus.RUNNING if row.status == JobStatus.QUEUED else row.status
            row = connection.execute(
                update(jobs)
                .where(jobs.c.id == row.id)
                .values(
                    status=status,
                    lease_owner=owner,
                    lease_expires=now + lease_s,
                    attempt=jobs.c.attempt + 1,
                    started_at=row.started_at or now,
                )
                .returning(jobs)
            ).one()
            message = "job started" if row.attempt == 1 else "job taken up again; finished steps are kept"
            say(connection, row, "info", "status", message, {"status": status, "attempt": row.attempt})
        return row

    def renew(self, row: Row, lease_s: float) -> JobStatus | None:
        """Keep the lease; returns the job's present status, or None when it is no longer this attempt's to run."""
        with writing(self.engine) as connection:
            return connection.execute(
                update(jobs)
                .where(jobs.c.id == row.id, jobs.c.attempt == row.attempt, jobs.c.status.in_(ACTIVE_JOBS))
                .values(lease_expires=time.time() + lease_s)
                .returning(jobs.c.status)
            ).scalar_one_or_none()

    def release(self, row: Row) -> None:
        """Give the job up so that another orchestrator may take it at once."""
        with writing(self.engine) as connection:
            connection.execute(
                update(jobs).where(jobs.c.id == row.id, jobs.c.attempt == row.attempt).values(lease_expires=None)
            )

    def note(self, row: Row, **values: Any) -> None:
        """Write phase, progress, evaluation, ... of a job that this attempt still holds."""
        with writing(self.engine) as connection:
            # why a job pauses is not for its progress to say
            statuses = [JobStatus.RUNNING] if "status_reason" in values else ACTIVE_JOBS
            connection.execute(
                update(jobs)
                .where(jobs.c.id == row.id, jobs.c.attempt == row.attempt, jobs.c.status.in_(statuses))
                .values(**values)
            )

    def end(self, row: Row, status: JobStatus, error: ErrorBody | None = None, **values: Any) -> bool:
        """Move to a final status. False: the move is not allowed (the job was cancelled meanwhile, say)."""
        with writing(self.engine) as connection:
            ended = connection.execute(
                update(jobs)
                .where(jobs.c.id == row.id, jobs.c.attempt == row.attempt, jobs.c.status.in_(sources(status)))
                .values(
                    status=status,
                    finished_at=time.time(),
                    lease_owner=None,
                    lease_expires=None,
                    error=error.model_dump() if error else None,
                    **values,
                )
                .returning(jobs)
            ).first()
            if ended is None:
                return False
            message = f"job failed: {error.message}" if error else f"job {status.value}"
            say(connection, ended, "error" if error else "info", "status", message, {"status": status})
        return True

    def cancel(self, row: Row) -> Row:
        """Ask for the end: at once when nothing runs, else the orchestrator ends it. Raises Conflict on a finished job."""
        with writing(self.engine) as connection:
            now = connection.execute(select(jobs).where(jobs.c.id == row.id).with_for_update()).one()
            if now.status in FINAL_JOBS:
                raise Conflict(f"job {row.id} is already {now.status}", code="job_finished")
            idle = now.status in sources(JobStatus.CANCELLED) and now.status != JobStatus.CANCELLING
            status = JobStatus.CANCELLED if idle else JobStatus.CANCELLING
            if status == now.status:
                return now
            if idle:  # nobody runs the job who would cancel what it left waiting
                connection.execute(cancel_steps(row.id))
            return move_to(connection, now, status, finished_at=time.time() if idle else None)

    def pause(self, row: Row) -> Row:
        """Ask for a rest: at once when nothing runs, else the orchestrator brings it about. Raises Conflict on a job that
        has ended or is being cancelled."""
        with writing(self.engine) as connection:
            now = connection.execute(select(jobs).where(jobs.c.id == row.id).with_for_update()).one()
            if now.status in RESTING_JOBS:
                return now
            idle = now.status == JobStatus.QUEUED
            status = JobStatus.PAUSED if idle else JobStatus.PAUSING
            if now.status not in sources(status):
                raise Conflict(f"job {row.id} is {now.status} and cannot be paused", code=why_not(now.status))
            reason = ASKED_TO_PAUSE if idle else now.status_reason
            return move_to(connection, now, status, status_reason=reason)

    def pause_over_budget(self, job_id: str, reason: str) -> bool:
        """Let a job pause whose next call might cost more than is left. False: it is to fail of that."""
        with writing(self.engine) as connection:
            now = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one()
            if budget_of(now.kind, now.request).on_exceed == "fail":
                return False
            if now.status == JobStatus.RUNNING:
                data = {"code": BudgetExceeded.code}
                say(connection, now, "warn", "budget", reason, data)
                move_to(connection, now, JobStatus.PAUSING, status_reason=OVER_BUDGET + reason)
        return True

    def change(self, row: Row, budget: Budget | None, metadata: Mapping[str, str] | None) -> Row:
        """Another budget (None: the old one) and metadata. A job that waits for its budget goes on.

        Raises Conflict on a new budget for a job that has ended.
        """
        with writing(self.engine) as connection:
            now = connection.execute(select(jobs).where(jobs.c.id == row.id).with_for_update()).one()
            if budget is not None and now.status in FINAL_JOBS:
                raise Conflict(f"job {row.id} is already {now.status}; it spends nothing more", code="job_finished")
            request = dict(now.request) if budget is None else with_budget(now.kind, now.request, budget)
            if metadata is not None:
                request["metadata"] = dict(metadata)
            values: dict[str, Any] = {"request": request}
            waits = budget is not None and (now.status_reason or "").startswith(OVER_BUDGET)
            if waits and now.status == JobStatus.PAUSING:
                values["status_reason"] = RAISED + "goes on at once"
            now = connection.execute(update(jobs).where(jobs.c.id == row.id).values(**values).returning(jobs)).one()
            if budget is not None:
                say(connection, now, "info", "budget", "budget changed", {"budget": budget.model_dump()})
            if waits and now.status == JobStatus.PAUSED:
                return move_to(connection, now, JobStatus.QUEUED, "job resumed and queued", status_reason=None)
            return now

    def rest(self, row: Row, reason: str = ASKED_TO_PAUSE, after: str | None = None) -> bool:
        """Let a job that this attempt holds be paused, its steps waiting. after: the stage that its `pause_after` names.

        False: another attempt holds it, or it is being cancelled.
        """
        with writing(self.engine) as connection:
            now = connection.execute(select(jobs).where(jobs.c.id == row.id).with_for_update()).one()
            if now.attempt != row.attempt or now.status not in (JobStatus.RUNNING, JobStatus.PAUSING):
                return False
            connection.execute(give_back_steps(row.id))
            values = {"lease_owner": None, "lease_expires": None, "status_reason": reason}
            values |= {"paused_after": after} if after else {}
            if (now.status_reason or "").startswith(OVER_BUDGET):
                values["status_reason"] = now.status_reason
            paused = move_to(connection, now, JobStatus.PAUSED, **values)
            if (now.status_reason or "").startswith(RAISED):
                move_to(connection, paused, JobStatus.QUEUED, "job resumed and queued", status_reason=None)
        return True

    def resume(self, row: Row) -> Row:
        """Queue a paused job again. Raises Conflict on any other."""
        with writing(self.engine) as connection:
            now = connection.execute(select(jobs).where(jobs.c.id == row.id).with_for_update()).one()
            if now.status == JobStatus.PAUSING:
                raise Conflict(f"job {row.id} is still pausing; resume it when it is paused", code="job_pausing")
            if now.status != JobStatus.PAUSED:
                raise Conflict(f"job {row.id} is {now.status}; only a paused job is resumed", code=why_not(now.status))
            return move_to(connection, now, JobStatus.QUEUED, "job resumed and queued", status_reason=None)

    def add_event(
        self,
        row: Row,
        message: str,
        *,
        level: str = "info",
        type: str = "message",
        data: dict | None = None,
        once: bool = False,
    ) -> None:
        """once: a replay after a crash says the same things again; they are not written twice."""
        with writing(self.engine) as connection:
            # events of a job are committed in the order of their numbers: a reader that goes by them misses none
            connection.execute(select(jobs.c.id).where(jobs.c.id == row.id).with_for_update(key_share=True))
            if once:
                same = select(events.c.sequence).where(
                    events.c.job_id == row.id, events.c.type == type, events.c.message == message
                )
                if connection.execute(same.limit(1)).first() is not None:
                    return
            say(connection, row, level, type, message, data)

    def events(self, job_id: str, after: int = 0, limit: int = 100, newest_first: bool = False) -> list[Row]:
        """By sequence. after: the last sequence already seen (newest_first: only older ones)."""
        query = select(events).where(events.c.job_id == job_id)
        if newest_first:
            query = query.where(events.c.sequence < after) if after else query
            query = query.order_by(events.c.sequence.desc())
        else:
            query = query.where(events.c.sequence > after).order_by(events.c.sequence)
        with reading(self.engine) as connection:
            return list(connection.execute(query.limit(limit)))

    def heartbeat(
        self, worker: str, project_id: str, service: str, queue: str | None, slots: int, stopping: bool = False
    ):
        """Say that a process lives and how many steps of its queue it runs at once."""
        values = {"service": service, "queue": queue, "slots": slots, "stopping": stopping, "seen_at": time.time()}
        with writing(self.engine) as connection:
            upsert(connection, workers, values | {"id": worker, "project_id": project_id})

    def live_workers(self, within_s: float) -> list[Row]:
        with reading(self.engine) as connection:
            query = select(workers).where(workers.c.seen_at > time.time() - within_s, workers.c.stopping.is_(False))
            return list(connection.execute(query))
