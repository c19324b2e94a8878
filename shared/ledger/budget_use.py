"""How much of each kind of budget is used: the fullest one of each kind, over all projects."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Engine, or_, select

from shared.db.engine import reading
from shared.db.fetch import fetch_all
from shared.ledger.accounts import EVERY_PROJECT, FIELDS, Limits, job_account, key_account, month_account
from shared.ledger.accounts import day_account as of_day
from shared.ledger.records import AccountRecord
from shared.ledger.tables import accounts

STANDING = "limit/"


class BudgetKind(StrEnum):
    JOB = "job"
    KEY_MONTH = "key_month"
    PROJECT_DAY = "project_day"
    PROJECT_MONTH = "project_month"


class BudgetUse(NamedTuple):
    """used: the largest share of a limit that is spent or held, above 1 where a limit was lowered; 0 without any limit.
    limited: accounts that have a limit."""

    used: float = 0.0
    limited: int = 0


def budget_use(engine: Engine, job_ids: Iterable[str], at: float) -> dict[BudgetKind, BudgetUse]:
    """Of these jobs, and of all keys and projects in the day and month (UTC) of this time (Unix seconds)."""
    jobs = [job_account(job_id) for job_id in job_ids]
    periods = {
        BudgetKind.KEY_MONTH: key_account("%", at),
        BudgetKind.PROJECT_DAY: of_day("%", at),
        BudgetKind.PROJECT_MONTH: month_account("%", at),
    }
    names = [f"{STANDING}%", *periods.values()]
    wanted = or_(accounts.c.id.in_(jobs), *(accounts.c.id.like(name) for name in names))
    with reading(engine) as connection:
        rows = fetch_all(connection, AccountRecord, select(accounts).where(wanted))
    standing = {row.id.removeprefix(STANDING): row for row in rows if row.id.startswith(STANDING)}
    made = dict.fromkeys(BudgetKind, BudgetUse())
    for row in rows:
        kind = _kind(row.id, periods)
        if kind is None:
            continue
        owner = EVERY_PROJECT if kind is BudgetKind.PROJECT_MONTH else row.id.split("/")[1]
        limits = _limits(row if kind is BudgetKind.JOB else standing.get(owner))
        shares = [
            (getattr(row, field) + getattr(row, f"held_{field}")) / most if most else 1.0
            for field, most in zip(FIELDS, limits, strict=True)
            if most is not None
        ]
        if shares:
            made[kind] = BudgetUse(max(made[kind].used, *shares), made[kind].limited + 1)
    return made


def _kind(account_id: str, periods: dict[BudgetKind, str]) -> BudgetKind | None:
    owner, _, rest = account_id.partition("/")
    if owner == "job":
        return BudgetKind.JOB
    period = rest.rpartition("/")[2]
    return next(
        (kind for kind, name in periods.items() if name.startswith(f"{owner}/") and name.endswith(f"/{period}")), None
    )


def _limits(row: AccountRecord | None) -> Limits:
    return Limits() if row is None else Limits(row.max_usd, row.max_tokens, row.max_calls)
