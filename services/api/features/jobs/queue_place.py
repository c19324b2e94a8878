"""The place of a queued job, and when it can start."""

from services.api.context import ApiContext
from shared.contracts.jobs import JobStatus, QueuePlace
from shared.jobs.overview import Waiting
from shared.jobs.records import JobRecord

PROJECT_FULL = "the project's limit of concurrent jobs is reached; one of them must end first"


def place_in_queue(context: ApiContext, job: JobRecord) -> QueuePlace | None:
    """None for a job that is not queued."""
    if job.status != JobStatus.QUEUED:
        return None
    waiting = context.stores.overview.waiting(job, context.platform.lease.total_seconds())
    reason = PROJECT_FULL if waiting.project_full else None
    return QueuePlace(position=waiting.ahead + 1, starts_in_seconds=starts_in(waiting), reason=reason)


def starts_in(waiting: Waiting) -> float | None:
    """Seconds until enough running jobs have ended; 0 with a free slot. None when unknown: no orchestrator runs, one of these
    jobs has no estimate, queued jobs come first, or the project is at its limit."""
    if waiting.capacity == 0 or waiting.project_full:
        return None
    must_end = waiting.ahead + 1 + len(waiting.running) - waiting.capacity
    if must_end <= 0:
        return 0.0
    if must_end > len(waiting.running) or None in waiting.running:
        return None
    return sorted(seconds for seconds in waiting.running if seconds is not None)[must_end - 1]
