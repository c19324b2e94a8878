"""Who may ask for what: API keys with scopes, and the projects they belong to."""

import time
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from shared.contracts.distillation import Strict


class Scope(StrEnum):
    """What a key opens. admin: the keys and the audit log of its own project."""

    JOBS = "jobs"
    CHAT = "chat"
    FILES = "files"
    ADMIN = "admin"


LONGEST_S = 10 * 366 * 24 * 3600  # a later end is a mistake, or milliseconds


def _printable(title: str) -> str:
    if not title.strip() or not title.isprintable():
        raise ValueError("use printable characters, at least one that is no blank")
    return title


def _to_come(at: int) -> int:
    if not time.time() < at < time.time() + LONGEST_S:
        raise ValueError("must lie in the future, at most ten years ahead, in Unix seconds")
    return at


Title = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
ProjectId = Annotated[str, Field(max_length=64, pattern=r"^proj_[a-z0-9]+$")]


class KeyRequest(Strict):
    """Body of POST /v1/keys. project: the caller's own where it is left out; only the operator may name another.

    expires_at: Unix seconds; null: it opens until it is revoked.
    """

    name: Title
    scopes: list[Scope] = Field(default=[Scope.JOBS, Scope.CHAT, Scope.FILES], min_length=1, max_length=len(Scope))
    project: ProjectId | None = None
    expires_at: Annotated[int, AfterValidator(_to_come)] | None = None


class KeyObject(BaseModel):
    """An `api_key` as it is listed: without the key itself. hint: its first and last characters."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    project: str
    scopes: list[Scope]
    hint: str
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None


class NewKey(KeyObject):
    """The answer to POST /v1/keys, the only one in which the key itself stands."""

    key: str
