"""JSON schemas that callers send: finds what an engine would fail on before it is asked."""

from collections.abc import Iterator
from typing import Any

from shared.contracts.json_types import Json

DEEPEST = 100  # references that lead to one another
SAME_PLACE = ("allOf", "anyOf", "oneOf")  # what these hold describes the same value, not one inside it


def find_endless(schema: Json) -> None:
    """Raises ValueError where a reference leads back to itself without a property or an item in between."""
    safe: set[str] = set()
    try:
        for node in _nodes(schema):
            _follow(schema, node, (), safe)
    except RecursionError as error:
        raise ValueError("the schema is nested too deeply") from error


def _nodes(value: Any) -> Iterator[Json]:
    """Every object in it. Iterative: a schema may be nested deeper than Python calls."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _follow(schema: Json, node: Any, path: tuple[str, ...], safe: set[str]) -> None:
    if not isinstance(node, dict):
        return
    reference = node.get("$ref")
    if isinstance(reference, str) and reference not in safe:
        if reference in path:
            raise ValueError(f"the schema never ends: {reference[:100]} refers to itself")
        if len(path) == DEEPEST:
            raise ValueError(f"the schema's references go deeper than {DEEPEST}")
        _follow(schema, _found(schema, reference), (*path, reference), safe)
        safe.add(reference)
    for name in SAME_PLACE:
        branches = node.get(name)
        for branch in branches if isinstance(branches, list) else []:
            _follow(schema, branch, path, safe)


def _found(schema: Json, reference: str) -> Any:
    """What `#/a/b` points at; None for what is not there or elsewhere, which the engine refuses itself."""
    if not reference.startswith("#"):
        return None
    here: Any = schema
    for part in reference.removeprefix("#").removeprefix("/").split("/") if reference not in ("#", "#/") else []:
        name = part.replace("~1", "/").replace("~0", "~")
        here = here.get(name) if isinstance(here, dict) else None
    return here
