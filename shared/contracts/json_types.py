"""Types of JSON: open objects, and numbers and booleans without pydantic's conversions (true to 1, "5" to 5)."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

Json = dict[str, Any]  # a JSON object whose fields somebody else defines


def _number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("must be a number")
    return value


Whole = Annotated[int, BeforeValidator(_number)]  # 3.0 counts, as in JSON Schema
Number = Annotated[float, BeforeValidator(_number)]
Switch = Annotated[bool, Field(strict=True)]
