"""The audit log: an entry for each request that may have changed something. Of the request's body nothing is kept."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from services.api.context import ApiContext
from shared.contracts.keys import AuditEntry
from shared.jobs.records import AuditRecord
from shared.platform.log import get_logger

log = get_logger(__name__)
LONGEST_ID = 200
ANSWER_BYTES = 1 << 20  # a longer answer is not read for the id of what was made


def note(context: ApiContext, project: str, **entry: Any) -> None:
    """A request is answered as it ended, also when its entry cannot be written: then that stands in the process's log."""
    try:
        context.stores.audit.add(project, **entry)
    except SQLAlchemyError as error:
        log.error("not in the audit log", project=project, **entry, error=repr(error))


def page(context: ApiContext, view: str | None, after: str | None, limit: int) -> tuple[list[AuditEntry], bool]:
    """view: the caller's project, None for the operator."""
    rows, more = context.stores.audit.page(view, after, limit)
    return [as_object(row) for row in rows], more


def object_of(path_params: Mapping[str, Any], answer: bytes) -> str | None:
    """What a request was about: what its path names, else the id of what the answer shows."""
    named = "/".join(str(value) for value in path_params.values()) or _id_in(answer)
    return "".join(c for c in named if c.isprintable())[:LONGEST_ID] if named else None


def _id_in(answer: bytes) -> str | None:
    if not 0 < len(answer) <= ANSWER_BYTES:
        return None
    try:
        value = json.loads(answer)
    except ValueError:
        return None
    found = value.get("id") if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def as_object(row: AuditRecord) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        created_at=int(row.created_at),
        project=row.project_id,
        caller=row.caller,
        method=row.method,
        route=row.route,
        object_id=row.object_id,
        status=row.status,
        request_id=row.request_id,
    )
