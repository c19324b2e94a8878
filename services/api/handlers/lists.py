"""OpenAI's list shape and its query parameters."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel

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
