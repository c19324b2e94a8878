"""A version that is tried beside the one that its alias serves: POST|GET|DELETE /v1/models/{alias}/canary."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class CanaryRequest(BaseModel):
    """percent: of conversations; they go to the version or, with shadow, are answered by the served one and copied to it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    version: int = Field(ge=1, le=2**31 - 1)
    percent: float = Field(ge=0, le=100)
    shadow: bool = False


class CanaryObject(BaseModel):
    """served: the version that answers the rest."""

    id: str
    object: Literal["model.canary"] = "model.canary"
    alias: str
    served: int
    version: int
    percent: float
    shadow: bool
    created_at: int


class CanaryDeleted(BaseModel):
    id: str
    object: Literal["model.canary.deleted"] = "model.canary.deleted"
    deleted: bool = True
