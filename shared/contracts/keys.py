"""Who may ask for what: API keys with scopes, and the projects they belong to."""

import time
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from shared.contracts.distillation import Strict
from shared.contracts.json_types import Number, Whole


class Scope(StrEnum):
    """What a key may do. jobs: also imports, exports, evals, recipes, models with their canaries. files: also stored chats. admin: keys,
    webhooks, audit log, spending and limits of its own project."""

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


class KeyBudget(Strict):
    """What the jobs that a key posts may spend at strong models in a month (UTC), all together; null: no limit of the key's
    own. tokens: input and output together."""

    max_usd: Number | None = Field(default=None, ge=0, le=1e9)
    max_tokens: Whole | None = Field(default=None, ge=0, le=10**15)
    max_calls: Whole | None = Field(default=None, ge=0, le=10**12)


class KeySpent(BaseModel):
    """Of a key's budget in this month, with what is reserved for calls on their way."""

    usd: float
    tokens: int
    calls: int


class KeyRequest(Strict):
    """Body of POST /v1/keys. project: the caller's own where it is left out; only the operator may name another.

    expires_at: Unix seconds; null: it opens until it is revoked.
    """

    name: Title
    scopes: list[Scope] = Field(default=[Scope.JOBS, Scope.CHAT, Scope.FILES], min_length=1, max_length=len(Scope))
    project: ProjectId | None = None
    expires_at: Annotated[Whole, AfterValidator(_to_come)] | None = None
    budget: KeyBudget = KeyBudget()


class KeyChange(Strict):
    """Body of PATCH /v1/keys/{id}. What it leaves out stays as it is, null takes a limit away."""

    budget: KeyBudget = KeyBudget()


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
    budget: KeyBudget = KeyBudget()
    spent: KeySpent = KeySpent(usd=0, tokens=0, calls=0)


class NewKey(KeyObject):
    """The answer to POST /v1/keys, the only one with the key itself."""

    key: str


class ProjectLimits(Strict):
    """What a project may use; null: as much as it likes.

    requests_per_minute: of all its callers together. concurrent_jobs: jobs beyond it wait in the queue.
    teacher_usd_per_day: at strong models, days are UTC's; a job that would spend more pauses. stored_bytes: of its files.
    """

    requests_per_minute: Whole | None = Field(default=None, ge=1, le=2**31 - 1)
    concurrent_jobs: Whole | None = Field(default=None, ge=1, le=2**31 - 1)
    teacher_usd_per_day: Number | None = Field(default=None, ge=0, le=1e9)
    stored_bytes: Whole | None = Field(default=None, ge=0, le=2**53)


class ProjectRequest(Strict):
    """Body of POST /v1/projects."""

    name: Title
    limits: ProjectLimits = ProjectLimits()


class ProjectChange(Strict):
    """Body of PATCH /v1/projects/{id}. What it leaves out stays as it is, null takes a limit away."""

    name: Title | None = None
    limits: ProjectLimits = ProjectLimits()


class ProjectObject(BaseModel):
    """A `project` as it is listed."""

    id: str
    object: Literal["project"] = "project"
    name: str
    created_at: int
    limits: ProjectLimits


class AuditEntry(BaseModel):
    """An `audit.entry`: a request that may have changed something, and its outcome.

    caller: a key's id; or operator, internal, local. route: as in the API's document, without what was asked for. object_id: what it
    was about. status: HTTP's.
    """

    id: str
    object: Literal["audit.entry"] = "audit.entry"
    created_at: int
    project: str
    caller: str
    method: str
    route: str
    object_id: str | None = None
    status: int
    request_id: str
