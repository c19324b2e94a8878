"""A waiting job's place, and when it may begin."""

from services.api.context import ApiContext
from shared.contracts.jobs import JobStatus, QueuePlace
from shared.jobs.overview import Waiting
from shared.jobs.records import JobRecord

PROJECT_FULL = "as many of the project's jobs are at work as its limit allows; one of them must end first"


def place(context: ApiContext, job: JobRecord) -> QueuePlace | None:
    """None for a job that does not wait for an orchestrator."""
    if job.status != JobStatus.QUEUED:
        return None
    found = context.stores.overview.waiting(job, context.platform.lease.total_seconds())
    reason = PROJECT_FULL if found.project_full else None
    return QueuePlace(position=found.ahead + 1, starts_in_seconds=starts_in(found), reason=reason)


def starts_in(waiting: Waiting) -> float | None:
    """0 while there is room; else until so many of the running jobs have ended as stand before this one. None: no
    orchestrator is there, one of these jobs does not know yet, jobs that have not begun come first, or the project is full."""
    if waiting.capacity == 0 or waiting.project_full:
        return None
    must_end = waiting.ahead + 1 + len(waiting.running) - waiting.capacity
    if must_end <= 0:
        return 0.0
    if must_end > len(waiting.running) or None in waiting.running:
        return None
    return sorted(seconds for seconds in waiting.running if seconds is not None)[must_end - 1]
