"""The states of jobs and steps and the allowed moves; the stores refuse every other move."""

from enum import StrEnum

from shared.contracts.jobs import JobStatus


class StepState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_STEPS = frozenset({StepState.SUCCEEDED, StepState.FAILED, StepState.CANCELLED})
FINAL_JOBS = frozenset({JobStatus.CANCELLED, JobStatus.SUCCEEDED, JobStatus.FAILED})
ACTIVE_JOBS = frozenset({JobStatus.RUNNING, JobStatus.PAUSING, JobStatus.CANCELLING})  # held by an orchestrator
STOPPING_JOBS = frozenset({JobStatus.CANCELLING, JobStatus.CANCELLED, JobStatus.FAILED})  # their steps are cancelled
RESTING_JOBS = frozenset({JobStatus.PAUSING, JobStatus.PAUSED})  # their steps are queued again

JOB_MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.VALIDATING: frozenset({JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.CANCELLED, JobStatus.FAILED}),
    JobStatus.RUNNING: frozenset(
        {JobStatus.PAUSING, JobStatus.PAUSED, JobStatus.CANCELLING, JobStatus.SUCCEEDED, JobStatus.FAILED}
    ),  # directly to paused: by its own `pause_after`
    JobStatus.PAUSING: frozenset(
        {JobStatus.PAUSED, JobStatus.CANCELLING, JobStatus.SUCCEEDED, JobStatus.FAILED}
    ),  # to succeeded: no work was left
    JobStatus.PAUSED: frozenset({JobStatus.QUEUED, JobStatus.CANCELLED}),
    JobStatus.CANCELLING: frozenset({JobStatus.CANCELLED}),
    JobStatus.CANCELLED: frozenset(),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
}


def sources(target: JobStatus) -> list[JobStatus]:
    """The statuses from which a job may move to `target`."""
    return [status for status, targets in JOB_MOVES.items() if target in targets]
