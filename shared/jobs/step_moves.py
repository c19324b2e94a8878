"""The parts of a step's moves: statements inside the caller's transaction."""

import time
from typing import NamedTuple

from sqlalchemy import Connection, Update, bindparam, select, update

from shared.contracts.errors import ErrorBody
from shared.contracts.steps import StepKind
from shared.db.engine import Values
from shared.db.lease import FREE, claimed, held
from shared.jobs.records import EndedAttempt, StepRecord
from shared.jobs.states import RESTING_JOBS, STOPPING_JOBS, StepState
from shared.jobs.tables import jobs, steps

NOT_BEGUN = STOPPING_JOBS | RESTING_JOBS  # no step of such a job begins
REQUEUED = FREE | {"state": StepState.QUEUED, "sent_at": None}

# The statements of every step are built once: building one takes SQLAlchemy longer than running it.
BY_KEY = select(steps).where(steps.c.job_id == bindparam("of_job"), steps.c.key == bindparam("of_key"))
FINISHED_TWIN = (
    select(steps)
    .where(
        steps.c.project_id == bindparam("of_project"),
        steps.c.input_hash == bindparam("of_input"),
        steps.c.state == StepState.SUCCEEDED,
        steps.c.result_ref.is_not(None),  # else its result has expired (retention_store)
    )
    .order_by(steps.c.finished_at.desc())
    .limit(1)
    .with_for_update(read=True)  # its result must not expire before the new row refers to it
)
CLAIM = (
    update(steps)
    .where(
        steps.c.id == bindparam("of_id"),
        steps.c.state == StepState.QUEUED,
        steps.c.not_before <= bindparam("now"),
        select(jobs.c.id).where(jobs.c.id == steps.c.job_id, jobs.c.status.not_in(NOT_BEGUN)).exists(),
    )
    .values(
        state=StepState.RUNNING,
        started_at=bindparam("now"),
        **claimed(steps, bindparam("worker"), bindparam("until")),
    )
    .returning(steps)
)
_OF_ATTEMPT = update(steps).where(
    held(steps, bindparam("of_id"), bindparam("of_attempt")), steps.c.state == bindparam("while_state")
)
STATES = select(steps).where(steps.c.id.in_(bindparam("ids", expanding=True)))


class Claim(NamedTuple):
    """The right to run one attempt of a step until the lease expires."""

    step_id: str
    job_id: str
    project_id: str
    key: str
    kind: StepKind
    input_hash: str
    attempt: int
    started_at: float = 0.0


def write(connection: Connection, claim: Claim, values: Values) -> bool:
    """Change the row while this attempt runs it. Returns whether it did."""
    of_attempt = {"of_id": claim.step_id, "of_attempt": claim.attempt, "while_state": StepState.RUNNING}
    return connection.execute(_OF_ATTEMPT, of_attempt | values).rowcount == 1


def cancel_steps(job_id: str) -> Update:
    """The statement that cancels a job's waiting and running steps."""
    return (
        update(steps)
        .where(steps.c.job_id == job_id, steps.c.state.in_([StepState.QUEUED, StepState.RUNNING]))
        .values(state=StepState.CANCELLED, finished_at=time.time(), **FREE)
    )


def requeue_steps(job_id: str) -> Update:
    """The statement that makes a job's waiting and running steps wait for a new message; writes of running attempts fail."""
    waiting = steps.c.state.in_([StepState.QUEUED, StepState.RUNNING])
    return update(steps).where(steps.c.job_id == job_id, waiting).values(**REQUEUED)


def ended_attempt(step: StepRecord, error: ErrorBody, now: float) -> Values:
    """The values that add this attempt to the step's ended ones and free its lease."""
    ended = EndedAttempt(
        attempt=step.attempt, worker=step.lease_owner, started_at=step.started_at, ended_at=now, error=error
    )
    return FREE | {"attempts": [attempt.model_dump() for attempt in (*step.attempts, ended)]}
