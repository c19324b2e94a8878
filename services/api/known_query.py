"""Refuses query parameters that a route does not have: a parameter that is ignored silently looks as if it had an effect."""

from collections import Counter
from difflib import get_close_matches

from fastapi import Request
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute

from shared.contracts.errors import UserError


class UnknownParameter(UserError):
    code = "unknown_parameter"


def refuse_unknown(request: Request) -> None:
    """Raises UnknownParameter for a name that the matched route lacks, UserError for one that is given twice."""
    if not request.scope.get("query_string"):
        return
    given = Counter(name for name, _ in request.query_params.multi_items())
    known = query_names(request.scope["route"])
    for name, times in given.items():
        if name.partition("[")[0] not in known:
            raise UnknownParameter(
                f"unknown query parameter {name[:100]!r}; {_told(request, name, known)}", param=name[:100]
            )
        if times > 1:
            raise UserError(
                f"query parameter {name[:100]!r} is given {times} times", param=name[:100], code="invalid_value"
            )


def query_names(route: APIRoute) -> list[str]:
    return sorted({param.alias for param in get_flat_dependant(route.dependant).query_params})


def _told(request: Request, name: str, known: list[str]) -> str:
    where = f"{request.method} {request.scope['route'].path}"
    if not known:
        return f"{where} takes none"
    near = get_close_matches(name, known, 1)
    return f"{where} takes {', '.join(known)}" + (f"; did you mean {near[0]}?" if near else "")
