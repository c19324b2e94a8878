"""OpenAI's list shape and its query parameters."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel

# Whatever else an id may be: short, and printable, so that it can be looked up and told of.
Id = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
After = Annotated[str | None, Query(max_length=200)]
Limit = Annotated[int, Query(ge=1, le=100)]
DEFAULT_LIMIT = 20


def listed(items: Sequence[BaseModel | dict[str, Any]], has_more: bool = False) -> dict[str, Any]:
    data = [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in items]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
