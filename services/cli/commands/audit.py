"""`meteor audit`: who asked for which change."""

from services.cli.client import Resource, client
from services.cli.options import DEFAULT_DATA, DEFAULT_LIMIT, After, Data, Json, Limit
from services.cli.output import Columns, emit_page, minute
from shared.contracts.keys import AuditEntry
from shared.contracts.views import Listed

AUDIT = Resource("/v1/audit", AuditEntry, Listed[AuditEntry])
COLUMNS: Columns[AuditEntry] = {
    "time": lambda entry: minute(entry.created_at),
    "caller": lambda entry: entry.caller,
    "project": lambda entry: entry.project,
    "request": lambda entry: f"{entry.method} {entry.route}",
    "of": lambda entry: entry.object_id,
    "answer": lambda entry: entry.status,
}


def audit(limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Who asked for which change, the newest first; for keys with the scope admin."""
    with client(data) as api:
        page = api.page(AUDIT, limit, after)
    emit_page(page, COLUMNS, as_json, "meteor audit")
