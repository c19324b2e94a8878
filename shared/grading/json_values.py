"""Grading JSON: the value of the answer against the reference's, or against a JSON schema."""

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs

from shared.contracts.grader_kinds import JsonEqualGrader, JsonSchemaGrader

DEEPEST, MOST_TRIES = 200, 100  # levels of a value that is compared; places where a value may begin
_OPENING = re.compile(r"[\[{]")
_DECODER = json.JSONDecoder()


def json_of(text: str) -> Any:
    """The JSON value that a text is, else the last whole object or list in it. Raises ValueError where it has none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        values = list(_values(text))
    if not values:
        raise ValueError("no JSON value")
    return values[-1]


def reference_of(text: str) -> Any:
    """Raises ValueError where the reference is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the reference is no JSON: {error}") from None


def _values(text: str) -> Iterator[Any]:
    """Whole objects and lists in a text, in order; what is cut off or malformed is none."""
    place = 0
    for _ in range(MOST_TRIES):
        begin = _OPENING.search(text, place)
        if begin is None:
            return
        try:
            value, place = _DECODER.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            place = begin.end()
        else:
            yield value


def equal(spec: JsonEqualGrader, answer: str, reference: str) -> float:
    """1 where both are JSON and have the same value; 1 and 1.0 are equal, true and 1 are not.
    Raises ValueError where the reference is no JSON."""
    expected = reference_of(reference)
    try:
        return float(same(spec, json_of(answer), expected))
    except ValueError:
        return 0.0


def meets(spec: JsonSchemaGrader, answer: str, reference: str) -> float:
    """1 where the answer's value is valid under the schema. Raises ValueError for a schema that is none, or that refers to
    an address."""
    validator = _validator(spec.of if spec.of is not None else reference_of(reference))
    try:
        return float(validator.is_valid(json_of(answer)))
    except (ValueError, RecursionError):
        return 0.0


def checked_schema(schema: Any) -> None:
    """Raises ValueError with the reason where it is no JSON schema."""
    _validator(schema)


def schema_of(schema: Any) -> Callable[[Any], str]:
    """A function of a value: why it does not meet the schema, "" where it does. Raises ValueError where it is no JSON schema."""
    validator = _validator(schema)

    def why(value: Any) -> str:
        error = next(validator.iter_errors(value), None)
        return "" if error is None else str(error).splitlines()[0]

    return why


def _validator(schema: Any):
    try:
        return jsonschema_rs.validator_for(schema, retriever=_nothing)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(f"no JSON schema: {error}".splitlines()[0]) from None


def _nothing(uri: str) -> Any:
    raise ValueError(f"{uri}: a grader's schema must be complete in itself")


def same(spec: JsonEqualGrader, one: Any, other: Any) -> bool:
    """Whether two JSON values are equal as the spec has it."""
    return _same(spec, one, other, 0)


def _same(spec: JsonEqualGrader, one: Any, other: Any, depth: int) -> bool:
    if depth > DEEPEST:
        return False
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other or _close(one, other, spec.relative)
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() - set(spec.ignore)
        return names == other.keys() - set(spec.ignore) and all(
            _same(spec, one[name], other[name], depth + 1) for name in names
        )
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return False
        if spec.ordered:
            return all(_same(spec, *pair, depth + 1) for pair in zip(one, other, strict=True))
        left = list(other)
        return all(_taken(spec, item, left, depth + 1) for item in one)
    return type(one) is type(other) and one == other


def _close(one: float, other: float, relative: float) -> bool:
    try:
        return math.isclose(one, other, rel_tol=relative)
    except OverflowError:  # a whole number beyond all floats
        return False


def _taken(spec: JsonEqualGrader, item: Any, left: list[Any], depth: int) -> bool:
    """Whether an equal of the item is left; it is removed."""
    for place, candidate in enumerate(left):
        if _same(spec, item, candidate, depth):
            del left[place]
            return True
    return False
