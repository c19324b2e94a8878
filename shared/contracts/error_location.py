"""Where in a value a fault is, as its author would say it: `distillation.adapter.rank`."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import zip_longest
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from typing_extensions import TypeAliasType

from shared.contracts.errors import NotFound


def dotted(location: Sequence[int | str], value: Any) -> str | None:
    """The dotted place of one of pydantic's errors; None: the value as a whole.

    Its location also names the alternative of a union that was tried, in words of our own inside. So only what leads somewhere
    in the value counts, and at the end the field that is missing. An alternative that is told by `type` may be named as one of its own
    fields is: then the next part leads on from the value, and not from that field.
    """
    places: list[str] = []
    for part, following in zip_longest(location, location[1:]):
        inner = _by_place(value)
        names_type = inner.get("type") == part and following in inner
        if part in inner and not (names_type and following not in _by_place(inner[part])):
            places.append(str(part))
            value = inner[part]
    return ".".join(places) or None


def _by_place(value: Any) -> Mapping[Any, Any]:
    """What is directly inside a value: by index in a list, by name in an object."""
    return dict(enumerate(value)) if isinstance(value, list) else value if isinstance(value, dict) else {}


def place_of(error: Any, value: Any) -> str | None:
    """The same for one of `ValidationError.errors()`, with the field that is missing where that is the fault."""
    location = error["loc"]
    if error["type"] != "missing" or not location:
        return dotted(location, value)
    return ".".join(part for part in (dotted(location[:-1], value), str(location[-1])) if part)


def said(error: Any) -> str:
    """What is wrong by one of `ValidationError.errors()`, for people."""
    if error["type"] == "string_too_short" and error.get("input") == "":
        return "the text is empty"
    return error["msg"].removeprefix("Value error, ")


def unknown_field(location: Sequence[int | str], kind: Any) -> str:
    """What to say of a field that the model `kind` does not have there: the fields it has, the nearest first."""
    known = sorted(_fields_at(kind, location[:-1]))
    if not known:
        return "no such field"
    near = nearest_field(location, kind)
    hint = f"; did you mean {near!r}?" if near else "."
    return f"no such field{hint} There are: {', '.join(known)}"


def nearest_field(location: Sequence[int | str], kind: Any) -> str | None:
    """The field of the model `kind` that was meant there; None where no name is near."""
    known = sorted(_fields_at(kind, location[:-1]))
    return next(iter(get_close_matches(str(location[-1]), known, 1, cutoff=0.5)), None)


def _fields_at(kind: Any, location: Sequence[int | str]) -> set[str]:
    """The names on the wire of the fields of the models that stand at a location of pydantic's."""
    kinds = _alternatives(kind)
    for part in location:
        inner = [one for kind in kinds for one in _inside(kind, part)]
        kinds = [
            one for kind in inner for one in _alternatives(kind)
        ] or kinds  # a part that leads nowhere names an alternative
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


def _alternatives(kind: Any) -> list[Any]:
    """The members of a union, without what only annotates them."""
    if isinstance(kind, TypeAliasType):
        return _alternatives(kind.__value__)
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [one for member in get_args(kind) for one in _alternatives(member)]
    return [kind]


def _inside(kind: Any, part: int | str) -> list[Any]:
    """The types of what has this name or number in a value of the type."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [field.annotation for name, field in kind.model_fields.items() if part in (name, field.alias)]
    arguments = get_args(kind)
    if not arguments:
        return []
    if isinstance(part, int):
        return [argument for argument in arguments if argument is not Ellipsis]
    return [arguments[-1]] if get_origin(kind) in (dict, Mapping) else []


def unknown_name(what: str, name: str, known: Iterable[str], code: str | None = None) -> NotFound:
    """The error for a name that does not exist: the nearest one, and all that there are."""
    names = list(known)
    near = get_close_matches(name.casefold(), names, 1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    there = f"there are {', '.join(names)}" if names else "there is none"
    return NotFound(f"no {what} is called {name!r}; {hint}{there}", code=code)
