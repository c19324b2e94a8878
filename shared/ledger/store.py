"""The ledger: an intent row is committed before a call is sent and settled after it; answers are kept by content.

With the intent the call's reservation is taken from the budgets it is paid from (accounts.py), in the same transaction.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import uuid_utils
from sqlalchemy import Connection, Engine, Row, bindparam, case, delete, func, insert, select, update

from shared.contracts.distillation import Budget
from shared.contracts.jobs import Usage
from shared.db.engine import engine_for, insert_once, reading, upgrade, writing
from shared.ledger.accounts import (
    FIELDS,
    ONE_CALL,
    Amount,
    Limits,
    day_account,
    end,
    give_job,
    hold,
    job_account,
    key_account,
    key_of_job,
    limits_of,
    month_account,
    set_standing_limits,
    spent_so_far,
    standing_limits,
)
from shared.ledger.tables import accounts, answers, calls

MIGRATIONS = Path(__file__).parent / "migrations"


class CallOrigin(NamedTuple):
    """For whom a call is made; all but the project may be None (a person using the gateway directly)."""

    project_id: str
    job_id: str | None = None
    step_id: str | None = None
    phase: str | None = None
    example_id: str | None = None


class Cost(NamedTuple):
    """What a call cost, as the provider counted it. output_tokens: reasoning included; cached_input_tokens: of the input."""

    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    cached_input_tokens: int = 0


_CALL = select(calls).where(calls.c.id == bindparam("of_call")).with_for_update()
_SETTLED = update(calls).where(calls.c.id == bindparam("of_call"))


class Ledger:
    """project_limits: what each project may spend per month; the gateway sets it."""

    def __init__(self, engine: Engine, project_limits: Limits | None = None):
        self.engine = engine
        self.project_limits = project_limits or Limits()

    def begin(self, origin: CallOrigin, provider: str, model: str, request_hash: str, most: Amount = ONE_CALL) -> str:
        """Commit the intent; returns the call's id. Only then may the request be sent. most: what it may cost.

        Raises BudgetExceeded where a budget has no room for it, RoomHeld where other calls on their way may leave some.
        """
        with writing(self.engine) as connection:
            return self.intend(connection, origin, provider, model, request_hash, most)

    def intend(
        self,
        connection: Connection,
        origin: CallOrigin,
        provider: str,
        model: str,
        request_hash: str,
        most: Amount,
        batch_id: str | None = None,
    ) -> str:
        """As `begin`, inside a transaction of the ledger. batch_id: the batch by which it will be sent."""
        call_id = f"call-{uuid_utils.uuid7().hex}"
        now = time.time()
        key_id = key_of_job(connection, origin.job_id)
        row = origin._asdict() | {
            "id": call_id,
            "provider": provider,
            "model": model,
            "request_hash": request_hash,
            "state": "intent",
            "reserved_usd": most.usd,
            "reserved_tokens": most.tokens,
            "created_at": now,
            "batch_id": batch_id,
            "key_id": key_id,
        }
        limits = {
            month_account(origin.project_id, now): self.project_limits,
            day_account(origin.project_id, now): standing_limits(connection, origin.project_id),
        }
        if key_id is not None:
            limits[key_account(key_id, now)] = standing_limits(connection, key_id)
        limited = {account_id: most for account_id, most in limits.items() if any_limit(most)}
        hold(connection, _accounts(origin.project_id, origin.job_id, key_id, now), most, limited)
        connection.execute(insert(calls).values(**row))
        return call_id

    def settle(
        self,
        call_id: str,
        outcome: str,
        cost: Cost | None,
        *,
        latency_ms: float | None = None,
        error: str | None = None,
        keep: dict[str, Any] | None = None,
    ) -> None:
        """Note how the call ended; `keep` stores the answer in the same transaction, so what was paid is never lost.

        cost None: nobody knows it, so what was reserved counts as spent. All zeros: nothing was, and it is no call that a
        budget counts. Settling again changes nothing: the connection may have broken after the first time.
        """
        now, paid = time.time(), None
        values: dict[str, Any] = {"state": "settled", "outcome": outcome, "latency_ms": latency_ms, "error": error}
        values |= {"settled_at": now}
        if cost is not None:
            values |= cost._asdict() | {"reserved_usd": 0.0, "reserved_tokens": 0}
            paid = Amount(cost.usd, cost.input_tokens + cost.output_tokens, int(any(cost)))
        with writing(self.engine) as connection:
            row = connection.execute(_CALL, {"of_call": call_id}).one()
            if row.state == "settled":
                return
            connection.execute(_SETTLED, {"of_call": call_id} | values)
            held = _held(row)
            mine = _accounts(row.project_id, row.job_id, row.key_id, row.created_at)
            end(connection, mine, held, held if paid is None else paid, unheld=row.state != "intent")
            if keep is not None:
                key = {"project_id": row.project_id, "request_hash": row.request_hash}
                # twice the same request at once: the first answer stays, both calls were paid for
                insert_once(connection, answers, key | {"call_id": call_id, "response": keep, "created_at": now})

    def kept(self, project_id: str, request_hash: str) -> dict[str, Any] | None:
        """The answer to the same request of the same project, if one was paid for before."""
        where = (answers.c.project_id == project_id) & (answers.c.request_hash == request_hash)
        with reading(self.engine) as connection:
            return connection.execute(select(answers.c.response).where(where)).scalar_one_or_none()

    def note_cached(
        self, origin: CallOrigin, provider: str, model: str, request_hash: str, saved_usd: float = 0.0
    ) -> None:
        """A call that cost nothing because its answer was kept. saved_usd: what the call would have cost."""
        now = time.time()
        row = origin._asdict() | {
            "id": f"call-{uuid_utils.uuid7().hex}",
            "provider": provider,
            "model": model,
            "request_hash": request_hash,
            "state": "settled",
            "outcome": "cached",
            "cached": True,
            "saved_usd": saved_usd,
            "created_at": now,
            "settled_at": now,
        }
        with writing(self.engine) as connection:
            connection.execute(insert(calls).values(**row))

    def mark_unknown(self) -> int:
        """At the gateway's start: what an earlier process sent and never settled may have been paid for, and counts as
        that, but for what went by a batch, whose answers can still be fetched. The accounts of months and days are made
        anew, from the calls, when they are needed."""
        with writing(self.engine) as connection:
            lost = connection.execute(
                update(calls)
                .where(calls.c.state == "intent", calls.c.batch_id.is_(None))
                .values(state="unknown", settled_at=time.time())
                .returning(calls)
            ).all()
            for row in lost:
                if row.job_id is not None:
                    end(connection, [job_account(row.job_id)], _held(row), _held(row), unheld=False)
            connection.execute(delete(accounts).where(accounts.c.id.like("project/%") | accounts.c.id.like("key/%")))
        return len(lost)

    def set_budget(self, job_id: str, budget: Budget, change: bool = True, key_id: str | None = None) -> None:
        """What a job may spend from now on. change False: only where its account is not open yet. key_id: the API key that
        posted it."""
        with writing(self.engine) as connection:
            give_job(connection, job_id, limits_of(budget), change, key_id)

    def set_standing_limits(self, owner_id: str, limits: Limits) -> None:
        """What a project may spend in each day, or an API key in each month (UTC), from now on."""
        with writing(self.engine) as connection:
            set_standing_limits(connection, owner_id, limits)

    def standing_limits(self, owner_id: str) -> Limits:
        with reading(self.engine) as connection:
            return standing_limits(connection, owner_id)

    def spent_by_key(self, key_id: str, at: float) -> Amount:
        """In the month of this time (Unix seconds), with what is reserved for calls on their way."""
        with reading(self.engine) as connection:
            sums = spent_so_far(connection, key_account(key_id, at))
        usd, tokens, calls = (sums[field] + sums[f"held_{field}"] for field in FIELDS)
        return Amount(usd, int(tokens), int(calls))

    def account(self, job_id: str) -> Row | None:
        """A job's account as it stands."""
        with reading(self.engine) as connection:
            return connection.execute(select(accounts).where(accounts.c.id == job_account(job_id))).first()

    def usage(self, job_id: str) -> Usage:
        return Usage(**self._sums(job_id, None).get("", {}))

    def usage_by_phase(self, job_id: str) -> dict[str, Usage]:
        """Phase -> what it cost. A phase without a call has no entry."""
        return {phase: Usage(**sums) for phase, sums in self._sums(job_id, calls.c.phase).items()}

    def _sums(self, job_id: str, group) -> dict[str, dict[str, Any]]:
        paid = case((calls.c.cached.is_(False), 1), else_=0)
        columns = [
            func.coalesce(func.sum(paid), 0).label("teacher_calls"),
            func.coalesce(func.sum(1 - paid), 0).label("cached_calls"),
            func.coalesce(func.sum(calls.c.input_tokens), 0).label("input_tokens"),
            func.coalesce(func.sum(calls.c.output_tokens), 0).label("output_tokens"),
            func.coalesce(func.sum(calls.c.usd), 0.0).label("usd_spent"),
            func.coalesce(func.sum(calls.c.reserved_usd), 0.0).label("usd_reserved"),
            func.coalesce(func.sum(calls.c.saved_usd), 0.0).label("usd_saved_by_cache"),
        ]
        query = select(*columns).where(calls.c.job_id == job_id)
        if group is not None:
            query = query.add_columns(group.label("phase")).group_by(group)
        with reading(self.engine) as connection:
            rows = connection.execute(query).mappings().all()
        return {(row.get("phase") or ""): {k: v for k, v in row.items() if k != "phase"} for row in rows}


def any_limit(limits: Limits) -> bool:
    return any(limit is not None for limit in limits)


def _accounts(project_id: str, job_id: str | None, key_id: str | None, at: float) -> list[str]:
    """What a call is paid from, always in this order, so that no two transactions wait for each other."""
    of_job = ([job_account(job_id)] if job_id else []) + ([key_account(key_id, at)] if key_id else [])
    return [*of_job, day_account(project_id, at), month_account(project_id, at)]


def _held(row: Row) -> Amount:
    return Amount(row.reserved_usd, row.reserved_tokens)


def open_ledger(url: str, project_limits: Limits | None = None) -> Ledger:
    """Migrate if needed and open."""
    upgrade(url, MIGRATIONS, "alembic_version_ledger")
    return Ledger(engine_for(url), project_limits)
