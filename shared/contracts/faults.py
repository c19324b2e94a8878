"""What pydantic refuses in a request's body, as problems: where, what, and the nearest name of a field that does not exist."""

import copy
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from shared.contracts.error_location import place_of
from shared.contracts.problems import Problem

CODES = {
    "json_invalid": "invalid_json",
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
}
MOST_NAMES = 12  # that are listed where none is near
ROUNDS = 4  # of leaving out: some faults show only after others are gone

Model = TypeVar("Model", bound=BaseModel)


class Reading(NamedTuple, Generic[Model]):
    """A body as far as it could be read. value: without what is at fault, so that the rest can be checked as well; None where
    too little is left."""

    value: Model | None
    problems: list[Problem]

    def concerns(self, problem: Problem) -> bool:
        """Whether a problem is with what the caller wrote, and not with a default that stands in for a fault."""
        places = [fault.param for fault in self.problems if fault.param]
        return not any(problem.param == place or str(problem.param).startswith(f"{place}.") for place in places)


def read(model: type[Model], body: Any) -> Reading[Model]:
    problems: list[Problem] = []
    left = copy.deepcopy(body)
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


def problems_in(errors: Iterable[Mapping[str, Any]], model: Any, body: Any) -> list[Problem]:
    """One problem for each place of the body. errors: of a ValidationError. model: what the body was read as.

    A value that may be of several types has an error for each of them; the first says enough.
    """
    problems: dict[tuple[str | None, str], Problem] = {}
    for error in errors:
        problem = _problem(error, model, body)
        problems.setdefault((problem.param, problem.message if problem.param is None else ""), problem)
    return list(problems.values())


def _problem(error: Mapping[str, Any], model: Any, body: Any) -> Problem:
    param, message = place_of(error, body), error["msg"]
    if error["type"].startswith("union_tag"):  # pydantic's message repeats what was sent, however long
        tag = error["ctx"]["discriminator"].strip("'")
        param = ".".join(part for part in (param, tag) if part)
        tags = error["ctx"].get("expected_tags")
        message = f"must be one of {tags}" if tags else "is required"
        return Problem(code="invalid_value", param=param, message=f"{param} {message}")
    remedy = _names(error["loc"], model) if error["type"] == "extra_forbidden" else ""
    text = f"{param}: {message}" if param else message
    return Problem(code=CODES.get(error["type"], "invalid_value"), param=param, message=text, remedy=remedy)


def _names(location: Sequence[int | str], model: Any) -> str:
    """The field that was meant, or the fields that there are."""
    *parents, name = location
    names = sorted({known for owner in _owners(parents, model) for known in _fields(owner)})
    near = difflib.get_close_matches(str(name), names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there are {', '.join(names)}" if 0 < len(names) <= MOST_NAMES else ""


def _owners(location: Sequence[int | str], model: Any) -> list[type[BaseModel]]:
    """The models that may stand at this place. Parts that are no field name the alternative of a union, or an item of a list."""
    owners = _models(model)
    for part in location:
        inner = [field for owner in owners for name, field in _fields(owner).items() if name == part]
        owners = [found for field in inner for found in _models(field)] or owners
    return owners


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Name on the wire -> its type."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in a type: itself, or within a union, a list, an Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
