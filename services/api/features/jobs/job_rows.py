"""What jobs of every kind have in common: how one is found, and how it stands."""

from typing import Any

from services.api.context import ApiContext
from shared.contracts.errors import NotFound
from shared.contracts.jobs import JobKind
from shared.jobs.records import JobRecord

WORD = {JobKind.DISTILLATION: "job", JobKind.IMPORT: "import", JobKind.EXPORT: "export"}


def find(context: ApiContext, project: str, kind: JobKind, job_id: str) -> JobRecord:
    """Raises NotFound, also for another project's job, and for one of another kind."""
    found = context.stores.jobs.get(job_id, project, kind)
    if found is None:
        word = WORD[kind]
        raise NotFound(f"no {word} {job_id!r}", param=f"{word}_id", code=f"{word}_not_found")
    return found


def standing(found: JobRecord) -> dict[str, Any]:
    """What the objects of imports and exports say alike."""
    return {
        "id": found.id,
        "created_at": int(found.created_at),
        "finished_at": int(found.finished_at) if found.finished_at else None,
        "status": found.status,
        "status_reason": found.status_reason,
        "progress": found.progress,
        "error": found.error,
    }
