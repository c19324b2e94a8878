"""GET /v1/usage: what calls to strong models have cost, by what they were for, and the budgets that they count against."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel

from shared.contracts.jobs import Usage
from shared.contracts.keys import KeyBudget, KeySpent


class UsageGroup(StrEnum):
    """day: of UTC, as 2026-11-30. project: of all projects, if the operator asks; else the caller's own. outcome: how calls ended, such as ok,
    cached, timeout or http_429."""

    DAY = "day"
    PROJECT = "project"
    JOB = "job"
    KEY = "key"
    PHASE = "phase"
    PROVIDER = "provider"
    OUTCOME = "outcome"


class UsageRow(Usage):
    """group: the day, or the name or id of what the calls were for; null: calls of none, such as checks."""

    group: str | None


class SharedBudgetObject(BaseModel):
    """A budget that jobs share: of an API key and month, or of a project and day or month (UTC). spent: with what is reserved for calls
    on their way."""

    id: str
    object: Literal["budget"] = "budget"
    name: str
    limits: KeyBudget
    spent: KeySpent


class UsageReport(BaseModel):
    """Days are in order, other groups by what they cost, the highest first. total: of all calls of the time, also those of groups behind
    the last one that is told. budgets: the present ones, whatever the time asked for."""

    object: Literal["usage"] = "usage"
    group_by: UsageGroup
    since: int
    until: int
    total: Usage
    data: list[UsageRow]
    has_more: bool
    budgets: list[SharedBudgetObject]
