"""What the calls of the ledger have cost, summed by what they were for. Reads only."""

import time
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Engine, Select, bindparam, case, cast, func, null, select, true

from shared.contracts.jobs import Usage
from shared.contracts.usage import UsageGroup
from shared.db.engine import reading
from shared.ledger.tables import calls

DAY_S = 24 * 3600
CLOCK_S = 60  # an id is made before its row's time is taken
_PAID = case((calls.c.cached.is_(False), 1), else_=0)
SUMS = {
    "teacher_calls": _PAID,
    "cached_calls": 1 - _PAID,
    "input_tokens": calls.c.input_tokens,
    "output_tokens": calls.c.output_tokens,
    "usd_spent": calls.c.usd,
    "usd_reserved": calls.c.reserved_usd,
    "usd_saved_by_cache": calls.c.saved_usd,
}
GROUPS: dict[UsageGroup, ColumnElement] = {
    UsageGroup.DAY: cast(calls.c.created_at, BigInteger) // DAY_S,
    UsageGroup.PROJECT: calls.c.project_id,
    UsageGroup.JOB: calls.c.job_id,
    UsageGroup.KEY: calls.c.key_id,
    UsageGroup.PHASE: calls.c.phase,
    UsageGroup.PROVIDER: calls.c.provider,
    UsageGroup.OUTCOME: func.coalesce(calls.c.outcome, calls.c.state),
}


class Outcomes(NamedTuple):
    """Calls of a provider by how they ended; latency_ms: the mean of those that were answered. error: the newest one."""

    provider: str
    counts: dict[str, int]
    latency_ms: float | None
    error: str | None
    error_at: float | None


def summed(group: ColumnElement | None = None) -> Select:
    """The group, and the fields of Usage in the order of SUMS."""
    return select(null() if group is None else group, *(func.coalesce(func.sum(value), 0) for value in SUMS.values()))


@lru_cache
def of_jobs() -> Select[Any]:
    """Job, and the fields of Usage, of `jobs` that made calls. Built once: building it takes longer than running it."""
    return summed(calls.c.job_id).where(calls.c.job_id.in_(bindparam("jobs", expanding=True))).group_by(calls.c.job_id)


def usage_of(totals: tuple) -> Usage:
    return Usage(**dict(zip(SUMS, totals, strict=True)))


def _of(project_id: str | None) -> ColumnElement[bool]:
    return true() if project_id is None else calls.c.project_id == project_id


def _between(since: float, until: float) -> ColumnElement[bool]:
    """Ids begin with the time in milliseconds, and are the primary key, so that old calls are not read."""
    return (calls.c.created_at >= since) & (calls.c.created_at < until) & (calls.c.id >= _id_at(since - CLOCK_S))


def _id_at(at: float) -> str:
    return f"call-{max(int(at * 1000), 0):012x}"


def usage_by(
    engine: Engine, project_id: str | None, by: UsageGroup, since: float, until: float, limit: int
) -> tuple[list[tuple[str | None, Usage]], bool]:
    """project_id None: all projects. Days in order, else the highest cost first; and whether there are more groups. since, until: Unix seconds."""
    group = GROUPS[by]
    mine = summed(group).where(_of(project_id), _between(since, until)).group_by(group)
    cost = func.sum(calls.c.usd).desc(), func.sum(calls.c.input_tokens + calls.c.output_tokens).desc(), group
    query = mine.order_by(*((group,) if by is UsageGroup.DAY else cost)).limit(limit + 1)
    with reading(engine) as connection:
        rows = connection.execute(query).all()
    told = [(_name(by, name), usage_of(tuple(totals))) for name, *totals in rows[:limit]]
    return told, len(rows) > limit


def _name(by: UsageGroup, value: str | int | None) -> str | None:
    if by is UsageGroup.DAY and value is not None:
        return time.strftime("%Y-%m-%d", time.gmtime(int(value) * DAY_S))
    return None if value is None else str(value)


def usage_between(engine: Engine, project_id: str | None, since: float, until: float) -> Usage:
    query = summed().where(_of(project_id), _between(since, until))
    with reading(engine) as connection:
        _, *totals = connection.execute(query).one()
    return usage_of(tuple(totals))


def outcomes_since(engine: Engine, since: float) -> list[Outcomes]:
    """Of all projects, by provider."""
    outcome = func.coalesce(calls.c.outcome, calls.c.state)
    recent = _between(since, time.time() + CLOCK_S)
    counted = select(calls.c.provider, outcome, func.count(), func.avg(calls.c.latency_ms)).where(recent)
    failed = select(calls.c.error, calls.c.created_at).where(recent, calls.c.error.is_not(None))
    newest = failed.order_by(calls.c.created_at.desc()).limit(1)
    made: dict[str, Outcomes] = {}
    with reading(engine) as connection:
        for provider, name, number, latency in connection.execute(counted.group_by(calls.c.provider, outcome)):
            if provider not in made:
                error, at = connection.execute(newest.where(calls.c.provider == provider)).one_or_none() or (None, None)
                made[provider] = Outcomes(provider, {}, None, error, at)
            made[provider].counts[name] = number
            if name == "ok":
                made[provider] = made[provider]._replace(latency_ms=latency)
    return sorted(made.values())
