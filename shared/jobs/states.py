"""Which moves a job and a step may make. Pure tables; the stores refuse every other move."""

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
ACTIVE_JOBS = frozenset({JobStatus.RUNNING, JobStatus.PAUSING, JobStatus.CANCELLING})  # an orchestrator holds them
STOPPING_JOBS = frozenset({JobStatus.CANCELLING, JobStatus.CANCELLED, JobStatus.FAILED})  # their steps are given up
RESTING_JOBS = frozenset({JobStatus.PAUSING, JobStatus.PAUSED})  # their steps are given back, for later

JOB_MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.VALIDATING: frozenset({JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.CANCELLED, JobStatus.FAILED}),
    JobStatus.RUNNING: frozenset(
        {JobStatus.PAUSING, JobStatus.PAUSED, JobStatus.CANCELLING, JobStatus.SUCCEEDED, JobStatus.FAILED}
    ),  # at once to paused: where its own `pause_after` says so
    JobStatus.PAUSING: frozenset(
        {JobStatus.PAUSED, JobStatus.CANCELLING, JobStatus.SUCCEEDED, JobStatus.FAILED}
    ),  # to succeeded: there was nothing left to pause
    JobStatus.PAUSED: frozenset({JobStatus.QUEUED, JobStatus.CANCELLED}),
    JobStatus.CANCELLING: frozenset({JobStatus.CANCELLED}),
    JobStatus.CANCELLED: frozenset(),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
}


def sources(target: JobStatus) -> list[JobStatus]:
    """The statuses from which a job may move to `target`."""
    return [status for status, targets in JOB_MOVES.items() if target in targets]
