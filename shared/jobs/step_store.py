"""Every move of a step, one short transaction each, tolerant of races.

A write carries the attempt number it belongs to and is refused (returns False) when a newer attempt has begun:
a finished step never goes back, a lost worker that wakes up changes nothing.
"""

import time
from collections.abc import Callable
from typing import Any

import uuid_utils
from sqlalchemy import Engine, Row, func, select, update

from shared.contracts.errors import ErrorBody, FatalError
from shared.contracts.jobs import JobStatus
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Progress, Queue, StepKind
from shared.db.engine import insert_once, reading, writing
from shared.jobs.states import FINAL_STEPS, STOPPING_JOBS, StepState
from shared.jobs.step_moves import (
    BY_KEY,
    CLAIM,
    FINISHED_TWIN,
    GIVEN_BACK,
    STATES,
    Claim,
    cancel_steps,
    ended_attempt,
    write,
)
from shared.jobs.tables import jobs, steps

RETRY_PAUSE_S = 2.0  # doubles with each attempt, up to
MAX_RETRY_PAUSE_S = 300.0


class StepMismatch(FatalError):
    """A replay came to a key whose stored inputs differ: the job's code or data changed under it."""

    code = "step_mismatch"


class StepStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def create(
        self,
        job: Row | Any,
        key: StepKey,
        kind: StepKind,
        input_hash: str,
        still_there: Callable[[Row], bool] = lambda _: True,
    ) -> Row:
        """The row of this key: the existing one, one that takes over a finished result of the project, or a queued one.

        still_there: whether what a finished step left can still be had; else the work is done again.
        """
        with writing(self.engine) as connection:
            now = time.time()
            values: dict[str, Any] = {
                "id": f"step-{uuid_utils.uuid7().hex}",
                "project_id": job.project_id,
                "job_id": job.id,
                "key": str(key),
                "phase": key.phase,
                "round": key.round,
                "role": key.role,
                "batch": key.batch,
                "kind": kind,
                "queue": kind.queue,
                "input_hash": input_hash,
                "state": StepState.QUEUED,
                "attempt": 0,
                "not_before": 0.0,
                "progress": {},
                "metrics": {},
                "attempts": [],
                "created_at": now,
                "sent_at": now,  # by its creator, right after the commit: noting it apart would be one more transaction
            }
            done = connection.execute(FINISHED_TWIN, {"of_project": job.project_id, "of_input": input_hash}).first()
            if done is not None and still_there(done):
                values |= {
                    "state": StepState.SUCCEEDED,
                    "result_ref": done.result_ref,
                    "metrics": done.metrics,
                    "reused_from": done.id,
                    "finished_at": now,
                }
            row = insert_once(connection, steps, values)
            if row is None:  # the job was here before
                row = connection.execute(BY_KEY, {"of_job": job.id, "of_key": str(key)}).one()
            return _same_inputs(row, input_hash)

    def get(self, step_id: str) -> Row | None:
        with reading(self.engine) as connection:
            return connection.execute(select(steps).where(steps.c.id == step_id)).first()

    def of_job(self, job_id: str) -> list[Row]:
        with reading(self.engine) as connection:
            return list(connection.execute(select(steps).where(steps.c.job_id == job_id).order_by(steps.c.created_at)))

    def states(self, step_ids: list[str]) -> dict[str, Row]:
        """The rows of many steps at once, for the poller."""
        found: dict[str, Row] = {}
        with reading(self.engine) as connection:
            for start in range(0, len(step_ids), 500):
                chunk = step_ids[start : start + 500]
                found |= {row.id: row for row in connection.execute(STATES, {"ids": chunk})}
        return found

    def note_sent(self, step_id: str, sent: bool = True) -> None:
        """Whether the step has a message; what has none is found by `unsent`."""
        with writing(self.engine) as connection:
            connection.execute(update(steps).where(steps.c.id == step_id).values(sent_at=time.time() if sent else None))

    def claim(self, step_id: str, worker: str, lease_s: float) -> Claim | None:
        """Take the step if it waits and its job goes on; a second delivery of the same message gets None."""
        now = time.time()
        with writing(self.engine) as connection:
            values = {"of_id": step_id, "worker": worker, "now": now, "until": now + lease_s}
            row = connection.execute(CLAIM, values).first()
        if row is None:
            return None
        return Claim(row.id, row.job_id, row.project_id, row.key, StepKind(row.kind), row.input_hash, row.attempt)

    def renew(self, claim: Claim, lease_s: float, progress: Progress | None) -> bool:
        """Keep the lease and note the progress. False: the lease was lost to a newer attempt."""
        values: dict[str, Any] = {"lease_expires": time.time() + lease_s}
        if progress is not None:
            values["progress"] = progress.model_dump(mode="json")
        return self._write(claim, values)

    def job_status(self, claim: Claim) -> JobStatus:
        with reading(self.engine) as connection:
            return JobStatus(connection.execute(select(jobs.c.status).where(jobs.c.id == claim.job_id)).scalar_one())

    def ended(self, claim: Claim) -> bool:
        """Whether the step has a final state, or will get one with its job's end."""
        with reading(self.engine) as connection:
            state = connection.execute(select(steps.c.state).where(steps.c.id == claim.step_id)).scalar_one()
        return state in FINAL_STEPS or self.job_status(claim) in STOPPING_JOBS

    def finish(self, claim: Claim, result_ref: str, metrics: dict[str, Any]) -> bool:
        now = time.time()
        return self._write(
            claim,
            {
                "state": StepState.SUCCEEDED,
                "result_ref": result_ref,
                "metrics": metrics,
                "finished_at": now,
                "lease_owner": None,
                "lease_expires": None,
            },
        )

    def fail(self, claim: Claim, error: ErrorBody, again: bool, max_attempts: int) -> StepState | None:
        """Note a failed attempt: queued again after a pause if it may be, else failed. None: the lease was lost."""
        now = time.time()
        with writing(self.engine) as connection:
            row = connection.execute(select(steps).where(steps.c.id == claim.step_id).with_for_update()).one()
            earlier = len(row.attempts)  # not claim.attempt: attempts that a shutdown gave back do not count
            again = again and earlier + 1 < max_attempts
            state = StepState.QUEUED if again else StepState.FAILED
            values = ended_attempt(row, error, now) | {
                "state": state,
                "error": error.model_dump(),
                "finished_at": None if again else now,
                "not_before": now + min(RETRY_PAUSE_S * 2**earlier, MAX_RETRY_PAUSE_S) if again else 0.0,
                "sent_at": None,
            }
            done = write(connection, claim, values)
        return state if done else None

    def release(self, claim: Claim) -> bool:
        """Put a step back: its worker shuts down, or its job pauses. Does not count towards the maximum of attempts."""
        return self._write(claim, GIVEN_BACK)

    def postpone(self, claim: Claim, seconds: float, progress: Progress) -> bool:
        """Put a step back for a while: what it needs is not there now. Does not count as an attempt either."""
        values = {"not_before": time.time() + seconds, "progress": progress.model_dump(mode="json")}
        return self._write(claim, GIVEN_BACK | values)

    def count_running(self, job_id: str) -> int:
        query = select(func.count()).where(steps.c.job_id == job_id, steps.c.state == StepState.RUNNING)
        with reading(self.engine) as connection:
            return connection.execute(query).scalar_one()

    def cancel_of_job(self, job_id: str) -> int:
        """Cancel what has not ended; running workers see it at their next look."""
        with writing(self.engine) as connection:
            return connection.execute(cancel_steps(job_id)).rowcount

    def reap(self, max_attempts: int) -> list[Row]:
        """End the attempts whose lease ran out; returns those rows as they were."""
        now = time.time()
        lost: list[Row] = []
        with writing(self.engine) as connection:
            expired = connection.execute(
                select(steps)
                .where(steps.c.state == StepState.RUNNING, steps.c.lease_expires < now)
                .with_for_update(skip_locked=True)  # one that is being finished or renewed just now is not lost
            ).all()
            for row in expired:
                error = ErrorBody(
                    message=f"worker {row.lease_owner} was lost during attempt {row.attempt}",
                    type="server_error",
                    code="worker_lost",
                )
                failed = len(row.attempts) + 1 >= max_attempts
                values = ended_attempt(row, error, now) | {
                    "state": StepState.FAILED if failed else StepState.QUEUED,
                    "error": error.model_dump(),
                    "sent_at": None,
                    "finished_at": now if failed else None,
                }
                connection.execute(update(steps).where(steps.c.id == row.id).values(**values))
                lost.append(row)
        return lost

    def unsent(self, resend_after_s: float) -> list[tuple[str, Queue]]:
        """Waiting steps that have no message, or whose message may have been lost."""
        now = time.time()
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(steps.c.id, steps.c.queue)
                .join(jobs, jobs.c.id == steps.c.job_id)
                .where(
                    steps.c.state == StepState.QUEUED,
                    steps.c.not_before <= now,
                    jobs.c.status == JobStatus.RUNNING,
                    (steps.c.sent_at.is_(None) & (steps.c.created_at < now - 1))
                    | (steps.c.sent_at < now - resend_after_s),
                )
                .order_by(steps.c.created_at)
                .limit(500)
            ).all()
        return [(row.id, Queue(row.queue)) for row in rows]

    def _write(self, claim: Claim, values: dict[str, Any]) -> bool:
        with writing(self.engine) as connection:
            return write(connection, claim, values)


def _same_inputs(row: Row, input_hash: str) -> Row:
    if row.input_hash != input_hash:
        raise StepMismatch(f"step {row.key!r} of job {row.job_id} was run with other inputs; fork the job instead")
    return row
