"""What the moves of a step are made of: statements inside the transaction of whoever makes the move."""

import time
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Update, bindparam, select, update

from shared.contracts.errors import ErrorBody
from shared.contracts.steps import StepKind
from shared.jobs.states import RESTING_JOBS, STOPPING_JOBS, StepState
from shared.jobs.tables import jobs, steps

NOT_BEGUN = STOPPING_JOBS | RESTING_JOBS  # no step of such a job begins
GIVEN_BACK = {"state": StepState.QUEUED, "lease_owner": None, "lease_expires": None, "sent_at": None}

# The statements that every step runs are built once: building one takes SQLAlchemy longer than running it.
BY_KEY = select(steps).where(steps.c.job_id == bindparam("of_job"), steps.c.key == bindparam("of_key"))
FINISHED_TWIN = (
    select(steps)
    .where(
        steps.c.project_id == bindparam("of_project"),
        steps.c.input_hash == bindparam("of_input"),
        steps.c.state == StepState.SUCCEEDED,
        steps.c.result_ref.is_not(None),  # else it was let go of (retention_store)
    )
    .order_by(steps.c.finished_at.desc())
    .limit(1)
    .with_for_update(read=True)  # it is not let go of before this row, which refers to the same result, is there
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
        attempt=steps.c.attempt + 1,
        lease_owner=bindparam("worker"),
        lease_expires=bindparam("until"),
        started_at=bindparam("now"),
    )
    .returning(steps)
)
_OF_ATTEMPT = update(steps).where(
    steps.c.id == bindparam("of_id"),
    steps.c.attempt == bindparam("of_attempt"),
    steps.c.state == bindparam("while_state"),
)
STATES = select(steps).where(steps.c.id.in_(bindparam("ids", expanding=True)))


class Claim(NamedTuple):
    """The right to run one attempt of a step until the lease ends."""

    step_id: str
    job_id: str
    project_id: str
    key: str
    kind: StepKind
    input_hash: str
    attempt: int


def write(connection: Connection, claim: Claim, values: dict[str, Any]) -> bool:
    """Change the row as long as this attempt is the one that runs."""
    of_attempt = {"of_id": claim.step_id, "of_attempt": claim.attempt, "while_state": StepState.RUNNING}
    return connection.execute(_OF_ATTEMPT, of_attempt | values).rowcount == 1


def cancel_steps(job_id: str) -> Update:
    """The statement that cancels whatever of a job has not ended."""
    return (
        update(steps)
        .where(steps.c.job_id == job_id, steps.c.state.in_([StepState.QUEUED, StepState.RUNNING]))
        .values(state=StepState.CANCELLED, finished_at=time.time(), lease_owner=None, lease_expires=None)
    )


def give_back_steps(job_id: str) -> Update:
    """The statement that makes all waiting and running steps of a job wait for a new message; whoever runs one is late."""
    waiting = steps.c.state.in_([StepState.QUEUED, StepState.RUNNING])
    return update(steps).where(steps.c.job_id == job_id, waiting).values(**GIVEN_BACK)


def ended_attempt(row: Row, error: ErrorBody, now: float) -> dict[str, Any]:
    ended = {
        "attempt": row.attempt,
        "worker": row.lease_owner,
        "started_at": row.started_at,
        "ended_at": now,
        "error": error.model_dump(),
    }
    return {"attempts": [*row.attempts, ended], "lease_owner": None, "lease_expires": None}
