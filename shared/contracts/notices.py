"""Events that belong to no job: of the canaries of an alias, and of a recipe."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel

from shared.contracts.json_types import Json


class NoticeKind(StrEnum):
    CANARY = "canary"
    RECIPE = "recipe"


class NoticeObject(BaseModel):
    """type: what happened. data: its figures and names."""

    id: str
    object: Literal["event"] = "event"
    created_at: int
    level: Literal["info", "warn", "error"]
    type: str
    message: str
    data: Json | None = None
