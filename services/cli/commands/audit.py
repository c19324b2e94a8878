"""`meteor audit`: who asked for which change."""

from services.cli.client import DEFAULT_DATA, Data, Json, client
from services.cli.output import DEFAULT_LIMIT, After, Columns, Limit, minute, page_of, show_page
from shared.platform.terminal import make_console

console = make_console()
ROUTE = "/v1/audit"
COLUMNS: Columns = {
    "time": lambda entry: minute(entry["created_at"]),
    "caller": lambda entry: entry["caller"],
    "project": lambda entry: entry["project"],
    "request": lambda entry: f"{entry['method']} {entry['route']}",
    "of": lambda entry: entry["object_id"],
    "answer": lambda entry: entry["status"],
}


def audit(limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Who asked for which change, the newest first; for keys with the scope admin."""
    with client(data) as api:
        page = page_of(api, ROUTE, limit, after)
    show_page(console, page, COLUMNS, as_json, "meteor audit")
