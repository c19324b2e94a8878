"""What pydantic refuses in a request's body, as problems: where, what, and the nearest name of a field that does not exist."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, PrivateAttr, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from shared.contracts.error_location import nearest_field, place_of, said, unknown_field
from shared.contracts.problems import Problem

CODES = {
    "json_invalid": "invalid_json",
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
}
ROUNDS = 4  # of leaving out: some faults show only after others are gone

Model = TypeVar("Model", bound=BaseModel)


class Reading(NamedTuple, Generic[Model]):
    """A body as far as it could be read. value: without what is at fault, so that the rest can be checked as well; None where
    too little is left."""

    value: Model | None
    problems: list[Problem]


class Readable(BaseModel):
    """A request that can be checked although parts of it are at fault. `Body = Annotated[Request, as_far_as_readable(Request)]`"""

    _faults: list[Problem] = PrivateAttr(default=[])

    @property
    def faults(self) -> list[Problem]:
        """What was wrong with the parts that were left out when it was read."""
        return self._faults


def as_far_as_readable(model: type[Readable]) -> WrapValidator:
    """Reads a body without what is at fault in it. Where too little is left it is refused as ever."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            reading = read(model, value)
            if reading.value is None:
                raise
            reading.value._faults = reading.problems
            return reading.value

    return WrapValidator(validate)


def besides(faults: Sequence[Problem], problems: Iterable[Problem]) -> list[Problem]:
    """The problems with what the caller wrote, and not with a default that stands in for one of the faults."""
    places = tuple(fault.param for fault in faults if fault.param)
    return [one for one in problems if not f"{one.param}.".startswith(tuple(f"{place}." for place in places))]


def read(model: type[Model], body: Any) -> Reading[Model]:
    """What a body says, and all that is wrong with it."""
    problems: list[Problem] = []
    try:
        left = copy.deepcopy(body)
    except RecursionError:
        return Reading(None, [Problem(code="invalid_value", message="the body is nested too deep", param=None)])
    for _ in range(ROUNDS):
        try:
            return Reading(model.model_validate(left), problems)
        except ValidationError as error:
            faults = error.errors()
            problems += problems_in(faults, model, left)
            kept = [fault for fault in faults if fault["type"] == "missing" or not _leave_out(left, fault["loc"])]
            if kept:
                break
    return Reading(None, problems)


def _leave_out(value: Any, location: Sequence[int | str]) -> bool:
    """Delete what stands at a fault's place. False where that is the body itself, or an item of a list."""
    owner, key = None, None
    for part in location:
        if isinstance(value, dict) and part in value:
            owner, key, value = value, part, value[part]
    if owner is None:
        return False
    owner.pop(key, None)
    return True


def problems_in(errors: Iterable[Mapping[str, Any]], kind: Any, body: Any) -> list[Problem]:
    """One problem for each place of the body. errors: of a ValidationError. kind: what the body was read as.

    A value that may be of several types has an error for each of them; the first says enough. A field that is missing because it
    is misspelt is told once.
    """
    faults = list(errors)
    meant = {
        (*error["loc"][:-1], nearest_field(error["loc"], kind))
        for error in faults
        if error["type"] == "extra_forbidden"
    }
    problems: dict[str, Problem] = {}
    for error in faults:
        if error["type"] != "missing" or tuple(error["loc"]) not in meant:
            problem = _problem(error, kind, body)
            problems.setdefault(problem.param or f"the body: {problem.message}", problem)
    return list(problems.values())


def _problem(error: Mapping[str, Any], kind: Any, body: Any) -> Problem:
    param, message = place_of(error, body), said(error)
    if error["type"].startswith("union_tag"):  # pydantic's message repeats what was sent, however long
        tag = error["ctx"]["discriminator"].strip("'")
        param = ".".join(part for part in (param, tag) if part)
        tags = error["ctx"].get("expected_tags")
        message = f"must be one of {tags}" if tags else "is required"
        return Problem(code="invalid_value", param=param, message=f"{param} {message}")
    if error["type"] == "extra_forbidden":
        message = unknown_field(error["loc"], kind)
    text = f"{param}: {message}" if param else message
    return Problem(code=CODES.get(error["type"], "invalid_value"), param=param, message=text)
