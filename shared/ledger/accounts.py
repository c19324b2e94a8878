"""Budgets: one account per job, per API key and month, per project and month, and per project and day. All functions run inside
the ledger's transactions.

An account counts the cost of its ended calls and reserves the maximum cost of its open ones, so that concurrent calls never
exceed a limit together. A reservation ends when the call's price is known. If the price stays unknown (the process died, the
answer was cut) the reservation counts as spent.

An account is opened with the sum of its calls so far, in a transaction that waits for all that move accounts: a call whose
transaction looked for the account before it was opened is in the sum, and one that looks for it later moves it.
"""

import calendar
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, func, select, update

from shared.contracts.distillation import Budget
from shared.contracts.errors import BudgetExceeded
from shared.db.engine import Values, insert_once, upsert
from shared.db.fetch import fetch_first
from shared.ledger.records import AccountRecord
from shared.ledger.tables import accounts, calls

FIELDS = ("usd", "tokens", "calls")
DAY_S = 24 * 3600
RESERVED = calls.c.reserved_tokens  # above 0 while the cost of a call is unknown


class Amount(NamedTuple):
    """USD, tokens (input and output) and calls: a cost, a maximum cost, or a sum of them."""

    usd: float = 0.0
    tokens: int = 0
    calls: int = 1


EVERY_PROJECT = (
    "every-project"  # whose standing limits are those of each project's month, as the gateway was started with
)
NOTHING, ONE_CALL = Amount(0.0, 0, 0), Amount()


class Limits(NamedTuple):
    """None: unlimited."""

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None


class SharedBudget(NamedTuple):
    """A budget that jobs share: of an API key and month, or of a project and day or month (UTC). spent: with the reservations of open
    calls."""

    account_id: str
    limits: Limits
    spent: Amount

    @property
    def name(self) -> str:
        """For people."""
        kind, owner, _ = self.account_id.split("/")
        if kind == "key":
            return f"this month's budget of API key {owner}"
        return "the project's limit of this day (UTC)" if self.is_of_day else "the project's budget of this month"

    @property
    def is_of_day(self) -> bool:
        return self.account_id.rpartition("/")[2].count("-") == 2

    def who_raises(self, field: str) -> str:
        """field: of FIELDS."""
        kind, owner, _ = self.account_id.split("/")
        if kind == "key":
            return f"PATCH /v1/keys/{owner} raises it"
        return (
            "PATCH /v1/projects raises it"
            if self.is_of_day
            else f"METEOR_STRONG_PROJECT_{field.upper()} of the gateway raises it"
        )


class RoomHeld(Exception):
    """Open calls reserve the rest of a budget; the call may fit once one of them has ended."""


class NotOpened(Exception):
    """An account that a limit applies to does not exist yet. `open_account` makes it, in a transaction that holds no lock."""

    def __init__(self, account_id: str):
        super().__init__(account_id)
        self.account_id = account_id


def limits_of(budget: Budget) -> Limits:
    return Limits(budget.max_usd, budget.max_tokens, budget.max_calls)


def job_account(job_id: str) -> str:
    return f"job/{job_id}"


def month_account(project_id: str, at: float) -> str:
    """at: Unix seconds; months are UTC's."""
    return f"project/{project_id}/{time.strftime('%Y-%m', time.gmtime(at))}"


def day_account(project_id: str, at: float) -> str:
    """at: Unix seconds; days are UTC's."""
    return f"project/{project_id}/{time.strftime('%Y-%m-%d', time.gmtime(at))}"


def key_account(key_id: str, at: float) -> str:
    """at: Unix seconds; months are UTC's."""
    return f"key/{key_id}/{time.strftime('%Y-%m', time.gmtime(at))}"


def standing_limits(connection: Connection, owner_id: str) -> Limits:
    """Of each day of a project, or of each month of an API key."""
    return fetch_first(connection, Limits, _STANDING, {"of_account": f"limit/{owner_id}"}) or Limits()


def set_standing_limits(connection: Connection, owner_id: str, limits: Limits) -> None:
    """Applies from now on; what was spent in this day or month counts."""
    nothing = dict.fromkeys((f"{kind}{field}" for kind in ("", "held_") for field in FIELDS), 0)
    most = {f"max_{field}": value for field, value in limits._asdict().items()}
    upsert(connection, accounts, nothing | most | {"id": f"limit/{owner_id}"})


def key_of_job(connection: Connection, job_id: str | None) -> str | None:
    """The API key that posted the job."""
    return job_id and connection.execute(_KEY, {"of_account": job_account(job_id)}).scalar_one_or_none()


_LOCKED = select(accounts).where(accounts.c.id == bindparam("of_account")).with_for_update()
_OF_ACCOUNT = accounts.c.id == bindparam("of_account")
_STANDING = select(accounts.c.max_usd, accounts.c.max_tokens, accounts.c.max_calls).where(_OF_ACCOUNT)
_KEY = select(accounts.c.key_id).where(_OF_ACCOUNT)
_MOVED = (
    update(accounts)
    .where(accounts.c.id == bindparam("of_account"))
    .values(
        {
            column: column + bindparam(f"more_{column.name}")
            for field in FIELDS
            for column in (accounts.c[field], accounts.c[f"held_{field}"])
        }
    )
)


def hold(connection: Connection, ids: Iterable[str], asked: Amount, limits: Mapping[str, Limits]) -> None:
    """Reserve for one call in all its accounts. limits: of accounts whose rows carry none.

    Raises RoomHeld, BudgetExceeded or NotOpened; the transaction must then be rolled back.
    """
    for account_id in ids:
        account = fetch_first(connection, AccountRecord, _LOCKED, {"of_account": account_id})
        if account is None:
            if account_id not in limits:
                continue  # no orchestrator has claimed the job yet
            raise NotOpened(account_id)
        own = Limits(account.max_usd, account.max_tokens, account.max_calls)
        _check(account, limits.get(account_id) or own, asked)
        _move(connection, account_id, held=asked)


def end_lost(connection: Connection, held: Iterable[tuple[Iterable[str], Amount]]) -> None:
    """Count what lost calls have held (their accounts, amount) as spent. One account after the other in the order of `paying`."""
    sums: dict[str, Amount] = {}
    for ids, amount in held:
        for account_id in ids:
            sums[account_id] = _plus(sums.get(account_id, NOTHING), amount)
    for account_id in sorted(sums, key=_place):
        end(connection, [account_id], sums[account_id], sums[account_id], unheld=False)


def paying(project_id: str, job_id: str | None, key_id: str | None, at: float) -> list[str]:
    """The accounts that pay a call, always in this order, so that transactions cannot deadlock. at: Unix seconds."""
    of_job = ([job_account(job_id)] if job_id else []) + ([key_account(key_id, at)] if key_id else [])
    return [*of_job, day_account(project_id, at), month_account(project_id, at)]


def _place(account_id: str) -> tuple[str, bool, str]:
    """In the order of `paying`: jobs, keys, days of projects, their months."""
    kind, _, name = account_id.partition("/")
    return kind, kind == "project" and name.rpartition("/")[2].count("-") == 1, account_id


def end(connection: Connection, ids: Iterable[str], held: Amount, cost: Amount, unheld: bool) -> None:
    """Count the cost of an ended call. unheld: its reservation was already counted as spent."""
    before, cost_more = (NOTHING, _minus(cost, held)) if unheld else (held, cost)
    for account_id in ids:
        _move(connection, account_id, held=_minus(NOTHING, before), spent=cost_more)


def _move(connection: Connection, account_id: str, held: Amount = NOTHING, spent: Amount = NOTHING) -> None:
    values: Values = {"of_account": account_id}
    values |= {f"more_{name}": value for name, value in spent._asdict().items()}
    values |= {f"more_held_{name}": value for name, value in held._asdict().items()}
    connection.execute(_MOVED, values)


def _plus(a: Amount, b: Amount) -> Amount:
    return Amount(a.usd + b.usd, a.tokens + b.tokens, a.calls + b.calls)


def _minus(a: Amount, b: Amount) -> Amount:
    return Amount(a.usd - b.usd, a.tokens - b.tokens, a.calls - b.calls)


def _check(account: AccountRecord, limits: Limits, asked: Amount) -> None:
    waits = False
    for field in FIELDS:
        most, spent, held = getattr(limits, field), getattr(account, field), getattr(account, f"held_{field}")
        wanted = getattr(asked, field)
        if most is None or spent + held + wanted <= most:
            continue
        if spent + wanted > most or not account.held_calls:
            raise _exceeded(account.id, field, most, spent, wanted)
        waits = True
    if waits:
        raise RoomHeld(account.id)


def _exceeded(account_id: str, field: str, most: float, spent: float, wanted: float) -> BudgetExceeded:
    def shown(value: float) -> str:
        return f"{value:.6g} USD" if field == "usd" else f"{value:,} {field}"

    what = f"{shown(spent)} of {shown(most)} are spent, and the next call may cost up to {shown(wanted)}"
    kind, _, name = account_id.partition("/")
    if kind == "job":
        return BudgetExceeded(f"the job's budget: {what}; raise distillation.budget.max_{field}", job_id=name)
    budget = SharedBudget(account_id, Limits(), NOTHING)
    return BudgetExceeded(f"{budget.name}: {what}; {budget.who_raises(field)}")


def give_job(connection: Connection, job_id: str, limits: Limits, change: bool, key_id: str | None) -> None:
    """Open a job's account. change: set the limits of an existing one. key_id: the API key that posted the job."""
    account_id = job_account(job_id)
    if not open_account(connection, account_id, limits, key_id) and change:
        values = {f"max_{field}": value for field, value in limits._asdict().items()}
        connection.execute(update(accounts).where(accounts.c.id == account_id).values(**values))


def open_account(connection: Connection, account_id: str, limits: Limits, key_id: str | None = None) -> bool:
    """Create the account with the cost of its calls so far. False: it exists. The transaction must not have moved an account."""
    values = {f"max_{field}": value for field, value in limits._asdict().items()}
    if connection.execute(select(accounts.c.id).where(accounts.c.id == account_id)).first() is not None:
        return False
    if connection.dialect.name == "postgresql":  # no row of the account can be locked before there is one
        connection.exec_driver_sql(f"LOCK TABLE {accounts.name} IN EXCLUSIVE MODE")
    values |= {"id": account_id, "key_id": key_id} | spent_so_far(connection, account_id)
    return insert_once(connection, accounts, values) is not None


def spent_so_far(connection: Connection, account_id: str) -> dict[str, float]:
    """FIELDS, spent and held, summed over the calls."""
    kind, name, *period = account_id.split("/")
    owner = {"job": calls.c.job_id, "key": calls.c.key_id, "project": calls.c.project_id}[kind]
    mine = and_(owner == name, *map(_within, period))
    is_open = calls.c.state == "intent"
    free = and_(
        calls.c.state == "settled", calls.c.usd == 0, calls.c.input_tokens + calls.c.output_tokens + RESERVED == 0
    )
    values = {
        "usd": calls.c.usd + calls.c.reserved_usd,
        "tokens": calls.c.input_tokens + calls.c.output_tokens + RESERVED,
        "calls": case((and_(~is_open, free), 0), else_=1),
    }
    columns = [
        func.coalesce(func.sum(case((condition, value), else_=0)), 0).label(prefix + field)
        for prefix, condition in (("", ~is_open), ("held_", is_open))
        for field, value in values.items()
    ]
    return dict(connection.execute(select(*columns).where(mine)).mappings().one())


def _within(period: str) -> ColumnElement[bool]:
    """period: a month or a day, as in an account's id."""
    year, month, *day = map(int, period.split("-"))
    if day:
        start = calendar.timegm((year, month, *day, 0, 0, 0))
        end = start + DAY_S
    else:
        following = (year + 1, 1) if month == 12 else (year, month + 1)
        start, end = (calendar.timegm((*first, 1, 0, 0, 0)) for first in ((year, month), following))
    return calls.c.created_at.between(start, end - 1e-6)
