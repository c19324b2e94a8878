"""A job's body that one of our own functions has put together, held against its contract."""

from typing import Any

from pydantic import ValidationError

from shared.contracts.error_location import place_of
from shared.contracts.errors import UserError
from shared.contracts.jobs import JobRequest


def job_of(body: dict[str, Any]) -> JobRequest:
    """Raises UserError with the first fault and its dotted place."""
    try:
        return JobRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(first["msg"], param=place_of(first, body), code="invalid_value") from error
