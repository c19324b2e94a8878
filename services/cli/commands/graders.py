"""`meteor graders`: the kinds of graders that an installation has."""

from services.cli.client import Resource, client
from services.cli.options import DEFAULT_DATA, Data, Json
from services.cli.output import Columns, emit_page
from shared.contracts.grader_runs import GraderKindObject
from shared.contracts.views import Listed

KINDS = Resource("/v1/graders", GraderKindObject, Listed[GraderKindObject])
COLUMNS: Columns[GraderKindObject] = {
    "kind": lambda kind: kind.id,
    "of": lambda kind: f"{kind.package} {kind.version}" if kind.package else "meteor",
    "settings": lambda kind: ", ".join(kind.settings or []),
    "not available": lambda kind: kind.unavailable_because,
}


def graders(as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """The kinds of graders there are, those of other packages among them, and what keeps one from use."""
    with client(data) as api:
        page = api.ask(KINDS.page, "GET", KINDS.route)
    emit_page(page, COLUMNS, as_json, "meteor graders")
