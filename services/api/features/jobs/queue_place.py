"""The places of queued jobs, and when they can start."""

from collections.abc import Sequence

from services.api.context import ApiContext
from shared.contracts.jobs import JobStatus, QueuePlace
from shared.jobs.overview import Waiting
from shared.jobs.records import JobRecord

PROJECT_FULL = "the project's limit of concurrent jobs is reached; one of them must end first"


def places_in_queue(context: ApiContext, jobs: Sequence[JobRecord]) -> dict[str, QueuePlace]:
    """By id, of those that are queued."""
    queued = [job for job in jobs if job.status == JobStatus.QUEUED]
    waiting = context.stores.overview.waiting(queued, context.platform.lease.total_seconds())
    return {job_id: _place(one) for job_id, one in waiting.items()}


def _place(waiting: Waiting) -> QueuePlace:
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
