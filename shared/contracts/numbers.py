"""Numbers and switches of request bodies: as JSON has them. Pydantic alone would take true for 1 and "5" for 5."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("must be a number")
    return value


Whole = Annotated[int, BeforeValidator(_number)]  # 3.0 is one too, as JSON Schema has it
Number = Annotated[float, BeforeValidator(_number)]
Switch = Annotated[bool, Field(strict=True)]
