"""Where in a value a fault is, as its author would say it: `distillation.adapter.rank`."""

from collections.abc import Sequence
from typing import Any


def dotted(location: Sequence[int | str], value: Any) -> str | None:
    """The dotted place of one of pydantic's errors; None: the value as a whole.

    Its location also names the alternative of a union that was tried, in words of our own inside. So only what leads somewhere
    in the value counts, and at the end the field that is missing.
    """
    places: list[str] = []
    for part in location:
        inner: Any = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(inner, dict) and part in inner:
            places.append(str(part))
            value = inner[part]
    return ".".join(places) or None


def place_of(error: Any, value: Any) -> str | None:
    """The same for one of `ValidationError.errors()`, with the field that is missing where that is the fault."""
    location = error["loc"]
    if error["type"] != "missing" or not location:
        return dotted(location, value)
    return ".".join(part for part in (dotted(location[:-1], value), str(location[-1])) if part)
