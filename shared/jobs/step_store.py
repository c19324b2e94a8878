"""Every move of a step, one short transaction each, tolerant of races.

Each write names its attempt and is refused (returns False) once a newer attempt has begun: a finished step never goes back,
and a lost worker that wakes up changes nothing.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable

import uuid_utils
from sqlalchemy import Connection, Engine, func, select, update

from shared.contracts.errors import ErrorBody, FatalError
from shared.contracts.jobs import JobStatus
from shared.contracts.json_types import Json
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Progress, Queue, StepKind
from shared.db.engine import Values, insert_once, reading, writing
from shared.db.fetch import fetch_all, fetch_first, fetch_one
from shared.db.lease import FREE, expired
from shared.jobs.records import JobRecord, StepRecord
from shared.jobs.states import FINAL_STEPS, STOPPING_JOBS, StepState
from shared.jobs.step_moves import (
    BY_KEY,
    CLAIM,
    FINISHED_TWIN,
    REQUEUED,
    STATES,
    Claim,
    cancel_steps,
    ended_attempt,
    write,
)
from shared.jobs.tables import jobs, steps
from shared.jobs.tallies import AttemptOutcome, Tally, tally

RETRY_PAUSE_S = 2.0  # doubles with each attempt, up to
MAX_RETRY_PAUSE_S = 300.0


class StepMismatch(FatalError):
    """A replay reached a key whose stored inputs differ: the job's code or data has changed."""

    code = "step_mismatch"


class StepStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def create(
        self,
        job: JobRecord,
        key: StepKey,
        kind: StepKind,
        input_hash: str,
        still_there: Callable[[StepRecord], bool] = lambda _: True,
    ) -> StepRecord:
        """The step of this key: the existing one, else one with the result of a finished twin of the project, else a queued one.

        still_there: whether a twin's artifacts still exist; without them the step runs again.
        """
        with writing(self.engine) as connection:
            now = time.time()
            values: Values = {
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
                "sent_at": now,  # the caller sends right after the commit; noting it separately costs a transaction
            }
            twin = {"of_project": job.project_id, "of_input": input_hash}
            done = fetch_first(connection, StepRecord, FINISHED_TWIN, twin)
            if done is not None and not still_there(done):
                done = None
            if done is not None:
                values |= {
                    "state": StepState.SUCCEEDED,
                    "result_ref": done.result_ref,
                    "metrics": done.metrics,
                    "reused_from": done.id,
                    "finished_at": now,
                }
            inserted = insert_once(connection, steps, values)
            if inserted is not None:
                if done is not None:
                    tally(connection, Tally.STEP, (kind, AttemptOutcome.REUSED))
                return StepRecord(*inserted)
            step = fetch_one(connection, StepRecord, BY_KEY, {"of_job": job.id, "of_key": str(key)})  # of a replay
        if step.input_hash != input_hash:
            raise StepMismatch(f"step '{key}' of job {job.id} ran with other inputs; fork the job instead")
        return step

    def get(self, step_id: str) -> StepRecord | None:
        with reading(self.engine) as connection:
            return fetch_first(connection, StepRecord, select(steps).where(steps.c.id == step_id))

    def of_job(self, job_id: str) -> list[StepRecord]:
        with reading(self.engine) as connection:
            query = select(steps).where(steps.c.job_id == job_id).order_by(steps.c.created_at)
            return fetch_all(connection, StepRecord, query)

    def jobs_of(self, step_ids: Iterable[str]) -> dict[str, str]:
        """Step -> its job; steps that are no more are left out."""
        wanted, jobs_by_id = list(dict.fromkeys(step_ids)), {}
        with reading(self.engine) as connection:
            for start in range(0, len(wanted), 500):
                some = wanted[start : start + 500]
                query = select(steps.c.id, steps.c.job_id).where(steps.c.id.in_(some))
                jobs_by_id |= dict(connection.execute(query).all())
        return jobs_by_id

    def states(self, step_ids: list[str]) -> dict[str, StepRecord]:
        """Many steps at once by id, for the poller."""
        states: dict[str, StepRecord] = {}
        with reading(self.engine) as connection:
            for start in range(0, len(step_ids), 500):
                chunk = step_ids[start : start + 500]
                states |= {step.id: step for step in fetch_all(connection, StepRecord, STATES, {"ids": chunk})}
        return states

    def note_sent(self, step_id: str, sent: bool = True) -> None:
        """sent False: the step has no message, and `unsent` lists it."""
        with writing(self.engine) as connection:
            connection.execute(update(steps).where(steps.c.id == step_id).values(sent_at=time.time() if sent else None))

    def claim(self, step_id: str, worker: str, lease_s: float) -> Claim | None:
        """Take a waiting step of a running job. None: it is taken or ended (a second delivery of the same message)."""
        now = time.time()
        with writing(self.engine) as connection:
            values = {"of_id": step_id, "worker": worker, "now": now, "until": now + lease_s}
            step = fetch_first(connection, StepRecord, CLAIM, values)
        if step is None:
            return None
        names = (step.id, step.job_id, step.project_id, step.key, step.kind, step.input_hash, step.attempt)
        return Claim(*names, started_at=now)

    def renew(self, claim: Claim, lease_s: float, progress: Progress | None) -> bool:
        """Extend the lease and note the progress. False: the lease was lost to a newer attempt."""
        values: Values = {"lease_expires": time.time() + lease_s}
        if progress is not None:
            values["progress"] = progress.model_dump(mode="json")
        return self._write(claim, values)

    def job_status(self, claim: Claim) -> JobStatus:
        with reading(self.engine) as connection:
            return JobStatus(connection.execute(select(jobs.c.status).where(jobs.c.id == claim.job_id)).scalar_one())

    def ended(self, claim: Claim) -> bool:
        """Whether the step has a final state or its job is stopping."""
        with reading(self.engine) as connection:
            state = connection.execute(select(steps.c.state).where(steps.c.id == claim.step_id)).scalar_one()
        return state in FINAL_STEPS or self.job_status(claim) in STOPPING_JOBS

    def finish(self, claim: Claim, result_ref: str, metrics: Json) -> bool:
        values = {"state": StepState.SUCCEEDED, "result_ref": result_ref, "metrics": metrics}
        tokens = metrics.get("trained_tokens")
        with writing(self.engine) as connection:
            done = write(connection, claim, FREE | values | {"finished_at": time.time()})
            if done:
                _count(connection, claim, AttemptOutcome.SUCCEEDED)
            if done and isinstance(tokens, int | float):
                tally(connection, Tally.TRAINED_TOKENS, amount=tokens)
        return done

    def fail(self, claim: Claim, error: ErrorBody, again: bool, max_attempts: int) -> StepState | None:
        """End an attempt with an error: the step is queued again after a pause, or failed. None: the lease was lost.

        again: whether the error may be retried.
        """
        now = time.time()
        with writing(self.engine) as connection:
            query = select(steps).where(steps.c.id == claim.step_id).with_for_update()
            step = fetch_one(connection, StepRecord, query)
            earlier = len(step.attempts)  # unlike claim.attempt without the released attempts
            again = again and earlier + 1 < max_attempts
            state = StepState.QUEUED if again else StepState.FAILED
            values = ended_attempt(step, error, now) | {
                "state": state,
                "error": error.model_dump(),
                "finished_at": None if again else now,
                "not_before": now + min(RETRY_PAUSE_S * 2**earlier, MAX_RETRY_PAUSE_S) if again else 0.0,
                "sent_at": None,
            }
            done = write(connection, claim, values)
            if done:
                _count(connection, claim, AttemptOutcome.RETRIED if again else AttemptOutcome.FAILED)
        return state if done else None

    def release(self, claim: Claim) -> bool:
        """Queue a step again whose worker shuts down or whose job pauses. Does not count as an attempt."""
        return self._write(claim, REQUEUED, AttemptOutcome.RELEASED)

    def postpone(self, claim: Claim, seconds: float, progress: Progress) -> bool:
        """Queue a step again, not to start before `seconds` have passed. Does not count as an attempt."""
        values = {"not_before": time.time() + seconds, "progress": progress.model_dump(mode="json")}
        return self._write(claim, REQUEUED | values, AttemptOutcome.POSTPONED)

    def count_running(self, job_id: str) -> int:
        query = select(func.count()).where(steps.c.job_id == job_id, steps.c.state == StepState.RUNNING)
        with reading(self.engine) as connection:
            return connection.execute(query).scalar_one()

    def cancel_of_job(self, job_id: str) -> int:
        """Cancel waiting and running steps; their workers stop at their next renewal. Returns how many."""
        with writing(self.engine) as connection:
            return connection.execute(cancel_steps(job_id)).rowcount

    def reap(self, max_attempts: int) -> list[StepRecord]:
        """End the attempts whose lease has expired. Returns the steps as they were before."""
        now = time.time()
        query = select(steps).where(steps.c.state == StepState.RUNNING, expired(steps, now))
        with writing(self.engine) as connection:
            # a locked row is just being finished or renewed
            lost = fetch_all(connection, StepRecord, query.with_for_update(skip_locked=True))
            for step in lost:
                error = ErrorBody(
                    message=f"worker {step.lease_owner} was lost during attempt {step.attempt}",
                    type="server_error",
                    code="worker_lost",
                )
                failed = len(step.attempts) + 1 >= max_attempts
                values = ended_attempt(step, error, now) | {
                    "state": StepState.FAILED if failed else StepState.QUEUED,
                    "error": error.model_dump(),
                    "sent_at": None,
                    "finished_at": now if failed else None,
                }
                connection.execute(update(steps).where(steps.c.id == step.id).values(**values))
            for kind, n in sorted(Counter(step.kind for step in lost).items()):  # in one order: others count too
                tally(connection, Tally.STEP, (kind, AttemptOutcome.LOST), n=n)
        return lost

    def unsent(self, resend_after_s: float) -> list[tuple[str, Queue]]:
        """Waiting steps without a message, or whose message may be lost."""
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

    def _write(self, claim: Claim, values: Values, outcome: AttemptOutcome | None = None) -> bool:
        """outcome: how the attempt ends by this write."""
        with writing(self.engine) as connection:
            done = write(connection, claim, values)
            if done and outcome is not None:
                _count(connection, claim, outcome)
        return done


def _count(connection: Connection, claim: Claim, outcome: AttemptOutcome) -> None:
    """One ended attempt and its seconds."""
    tally(connection, Tally.STEP, (claim.kind, outcome), max(time.time() - claim.started_at, 0.0))
