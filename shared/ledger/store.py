"""The ledger: an intent row is committed before a call is sent and settled after it; answers are cached by request hash.

The intent's transaction also reserves the call's maximum cost in its budgets (accounts.py).
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import uuid_utils
from sqlalchemy import Connection, Engine, bindparam, delete, insert, select, update

from shared.contracts.distillation import Budget
from shared.contracts.jobs import Usage
from shared.contracts.json_types import Json
from shared.contracts.masking import masked
from shared.db.engine import Values, engine_for, insert_once, reading, upgrade, writing
from shared.db.fetch import fetch_all, fetch_first, fetch_one
from shared.ledger.accounts import (
    EVERY_PROJECT,
    FIELDS,
    ONE_CALL,
    Amount,
    Limits,
    NotOpened,
    SharedBudget,
    day_account,
    end,
    end_lost,
    give_job,
    hold,
    job_account,
    key_account,
    key_of_job,
    limits_of,
    month_account,
    open_account,
    paying,
    set_standing_limits,
    spent_so_far,
    standing_limits,
)
from shared.ledger.gateway_store import is_lost, others
from shared.ledger.records import AccountRecord, CallRecord
from shared.ledger.spending import of_jobs, summed, usage_of
from shared.ledger.tables import accounts, answers, batch_requests, calls

MIGRATIONS = Path(__file__).parent / "migrations"


AT_ONCE = 500  # rows of one statement
T = TypeVar("T")


class CallOrigin(NamedTuple):
    """Whom a call is made for. Only the project is known if a person uses the gateway directly."""

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


class KeptAnswer(NamedTuple):
    """A cached answer. call_id: the call that it was paid for with."""

    call_id: str
    response: Json


class InFlight(Exception):
    """An equal request is on its way, by itself or in a batch, or was answered just now."""


_CALL = select(calls).where(calls.c.id == bindparam("of_call")).with_for_update()
OPEN_FLIGHT = (
    (calls.c.project_id == bindparam("of_project"))
    & (calls.c.flight == bindparam("of_flight"))
    & (calls.c.state == "intent")
)
_FLIES = select(calls.c.id).where(OPEN_FLIGHT, calls.c.batch_id.is_(None))
_KEPT = select(answers.c.call_id).where(
    answers.c.project_id == bindparam("of_project"), answers.c.request_hash == bindparam("of_flight")
)
_OUTDATED = delete(answers).where(
    answers.c.project_id == bindparam("of_project"),
    answers.c.request_hash == bindparam("of_flight"),
    answers.c.created_at < bindparam("begun_at"),
)
_SETTLED = update(calls).where(calls.c.id == bindparam("of_call"))


class Ledger:
    """project_limits: what each project may spend per month; the gateway sets it. gateway: the name under which it opens calls."""

    def __init__(self, engine: Engine, project_limits: Limits | None = None, gateway: str | None = None):
        self.engine = engine
        self.gateway = gateway
        self.project_limits = project_limits or Limits()

    def begin(
        self,
        origin: CallOrigin,
        provider: str,
        model: str,
        request_hash: str,
        most: Amount = ONE_CALL,
        flight: bool = False,
        passed_over: Sequence[str] = (),
    ) -> str:
        """Commit the intent before the request is sent; returns the call's id. most: its maximum cost. flight, passed_over: see `intend`.

        Raises BudgetExceeded if a budget does not allow it, RoomHeld if it may once other calls have ended, InFlight.
        """
        return self.reserving(
            lambda connection: self.intend(
                connection, origin, provider, model, request_hash, most, flight=flight, passed_over=passed_over
            )
        )

    def reserving(self, deed: Callable[[Connection], T]) -> T:
        """The result of a transaction that calls `intend`. It begins anew when an account that it needs has been opened."""
        while True:
            try:
                with writing(self.engine) as connection:
                    return deed(connection)
            except NotOpened as missing:
                with writing(self.engine) as connection:
                    open_account(connection, missing.account_id, Limits())

    def flies(self, project_id: str, request_hash: str) -> bool:
        """Whether a request is on its way by itself."""
        with reading(self.engine) as connection:
            return connection.execute(_FLIES, {"of_project": project_id, "of_flight": request_hash}).first() is not None

    def _claim(self, connection: Connection, row: Values, passed_over: Sequence[str]) -> None:
        """Write the intent of a request of which one is open at a time. From then on nobody else can answer it, so only now it is known
        whether somebody has. Raises InFlight."""
        request_hash = row["request_hash"]
        if insert_once(connection, calls, row | {"flight": request_hash}) is None:
            raise InFlight(request_hash)
        about = {"of_project": row["project_id"], "of_flight": request_hash}
        answered_by = connection.execute(_KEPT, about).scalar_one_or_none()
        if answered_by is not None and answered_by not in passed_over:
            raise InFlight(request_hash)

    def intend(
        self,
        connection: Connection,
        origin: CallOrigin,
        provider: str,
        model: str,
        request_hash: str,
        most: Amount,
        *,
        batch_id: str | None = None,
        flight: bool = False,
        passed_over: Sequence[str] = (),
    ) -> str:
        """As `begin`, inside a transaction of the ledger, which has not moved an account yet. batch_id: the batch that will send it.
        flight: equal requests are to be one call, whichever gateway sends it, by itself or in a batch. passed_over: calls whose cached
        answers do not count: its former attempts, and one whose answer is outdated."""
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
            "gateway": self.gateway,
        }
        if flight:
            self._claim(connection, row, passed_over)
        else:
            connection.execute(insert(calls).values(**row))
        limits = {
            month_account(origin.project_id, now): self.project_limits,
            day_account(origin.project_id, now): standing_limits(connection, origin.project_id),
        }
        if key_id is not None:
            limits[key_account(key_id, now)] = standing_limits(connection, key_id)
        limited = {account_id: most for account_id, most in limits.items() if any_limit(most)}
        hold(connection, paying(origin.project_id, origin.job_id, key_id, now), most, limited)
        return call_id

    def settle(
        self,
        call_id: str,
        outcome: str,
        cost: Cost | None,
        *,
        latency_ms: float | None = None,
        error: str | None = None,
        keep: Json | None = None,
    ) -> None:
        """Record how the call ended. keep: the answer to cache in the same transaction, so that a paid answer is never lost.

        cost None: unknown, so the reservation counts as spent. All zeros: free, and no budget counts the call. Settling again
        changes nothing, so that it may be repeated after a lost connection.
        """
        with writing(self.engine) as connection:
            call = self.end_call(connection, call_id, outcome, cost, latency_ms=latency_ms, error=error)
            if call is not None and keep is not None:
                key = {"project_id": call.project_id, "request_hash": call.request_hash}
                # an answer from before the call began did not count, or the call would not have been made
                about = {"of_project": call.project_id, "of_flight": call.request_hash}
                connection.execute(_OUTDATED, about | {"begun_at": call.created_at})
                # of two equal requests at once the first answer stays; both were paid for
                made = {"call_id": call_id, "response": keep, "created_at": time.time()}
                insert_once(connection, answers, key | made)

    def end_call(
        self,
        connection: Connection,
        call_id: str,
        outcome: str,
        cost: Cost | None,
        *,
        latency_ms: float | None = None,
        error: str | None = None,
    ) -> CallRecord | None:
        """As `settle`, inside a transaction of the ledger; returns the call as it was. None: it was settled before."""
        values: Values = {
            "state": "settled",
            "outcome": outcome,
            "latency_ms": latency_ms,
            "error": error and masked(error),
            "settled_at": time.time(),
        }
        call = fetch_one(connection, CallRecord, _CALL, {"of_call": call_id})
        if call.state == "settled":
            return None
        held = paid = _held(call)
        if cost is not None:
            values |= cost._asdict() | {"reserved_usd": 0.0, "reserved_tokens": 0}
            paid = Amount(cost.usd, cost.input_tokens + cost.output_tokens, int(any(cost)))
        connection.execute(_SETTLED, {"of_call": call_id} | values)
        end(connection, _paying(call), held, paid, unheld=call.state != "intent")
        return call

    def kept(
        self, project_id: str, request_hash: str, *, former: str | None = None, provider: str | None = None
    ) -> KeptAnswer | None:
        """The cached answer to an equal request of the project, if any.

        former: the request's hash of the time when the provider was no part of it; such an answer counts where `provider` paid
        for it.
        """
        mine = select(answers.c.call_id, answers.c.response).where(answers.c.project_id == project_id)
        with reading(self.engine) as connection:
            answer = fetch_first(connection, KeptAnswer, mine.where(answers.c.request_hash == request_hash))
            if answer is None and former is not None:
                paid = mine.join(calls, calls.c.id == answers.c.call_id).where(calls.c.provider == provider)
                answer = fetch_first(connection, KeptAnswer, paid.where(answers.c.request_hash == former))
        return answer

    def forget(self, project_id: str, examples: Sequence[str]) -> int:
        """Remove the answers that were cached for rows, and what batches keep of them; calls and costs stay. Returns how many answers
        went. examples: ids of rows."""
        gone = 0
        with writing(self.engine) as connection:
            for start in range(0, len(examples), AT_ONCE):
                part = examples[start : start + AT_ONCE]
                of_rows = (calls.c.project_id == project_id) & calls.c.example_id.in_(part)
                # in the order of `settle`: the calls, the answers
                connection.execute(update(calls).where(of_rows).values(error=None))
                hashes = select(calls.c.request_hash).where(of_rows)
                mine = (answers.c.project_id == project_id) & answers.c.request_hash.in_(hashes)
                gone += connection.execute(delete(answers).where(mine)).rowcount
                ids = select(calls.c.id).where(of_rows)
                ended = batch_requests.c.body.is_(None)  # an open batch still needs its requests
                connection.execute(delete(batch_requests).where(batch_requests.c.call_id.in_(ids), ended))
        return gone

    def note_cached(
        self, origin: CallOrigin, provider: str, model: str, request_hash: str, saved_usd: float = 0.0
    ) -> None:
        """Record a call that was answered from the cache. saved_usd: what it would have cost."""
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

    def mark_unknown(self, starting: bool = True) -> int:
        """Count the unsettled calls of gateways that no longer run as paid; returns how many. Calls of a batch stay open, for their
        answers can still be fetched. starting: a gateway begins, so that what it sent before is lost too; where no other one runs, the
        accounts of months and days are rebuilt from the calls on use."""
        now = time.time()
        of_nobody = is_lost(now, self.gateway if starting else None)
        if not starting:
            with reading(self.engine) as connection:
                if connection.execute(select(calls.c.id).where(of_nobody).limit(1)).first() is None:
                    return 0
        with writing(self.engine) as connection:
            unsettled = update(calls).where(of_nobody)
            lost = fetch_all(connection, CallRecord, unsettled.values(state="unknown", settled_at=now).returning(calls))
            end_lost(connection, [(_paying(call), _held(call)) for call in lost])
            if starting and not connection.execute(select(others(now, self.gateway))).scalar_one():
                rebuilt = accounts.c.id.like("project/%") | accounts.c.id.like("key/%")
                connection.execute(delete(accounts).where(rebuilt))
        return len(lost)

    def set_budget(self, job_id: str, budget: Budget, change: bool = True, key_id: str | None = None) -> None:
        """Set what a job may spend from now on. change False: only if its account is new. key_id: the API key that posted
        it."""
        with writing(self.engine) as connection:
            give_job(connection, job_id, limits_of(budget), change, key_id)

    def set_standing_limits(self, owner_id: str, limits: Limits) -> None:
        """Set what a project may spend per day, or an API key per month (UTC), from now on."""
        with writing(self.engine) as connection:
            set_standing_limits(connection, owner_id, limits)

    def standing_limits(self, owner_id: str) -> Limits:
        with reading(self.engine) as connection:
            return standing_limits(connection, owner_id)

    def spent_by_key(self, key_id: str, at: float) -> Amount:
        """In the month of this time (Unix seconds), with the reservations of open calls."""
        return self._spent(key_account(key_id, at))

    def shared_budgets(self, project_id: str, key_id: str | None, at: float) -> list[SharedBudget]:
        """Those beside a job's own that a call of this project and key must fit into at this time (Unix seconds), if they limit
        anything."""
        limits = {
            day_account(project_id, at): self.standing_limits(project_id),
            month_account(project_id, at): self.standing_limits(EVERY_PROJECT),
        }
        if key_id:
            limits = {key_account(key_id, at): self.standing_limits(key_id)} | limits
        return [SharedBudget(name, limit, self._spent(name)) for name, limit in limits.items() if any_limit(limit)]

    def _spent(self, account_id: str) -> Amount:
        with reading(self.engine) as connection:
            sums = spent_so_far(connection, account_id)
        usd, tokens, calls = (sums[field] + sums[f"held_{field}"] for field in FIELDS)
        return Amount(usd, int(tokens), int(calls))

    def account(self, job_id: str) -> AccountRecord | None:
        """A job's account now."""
        with reading(self.engine) as connection:
            return fetch_first(connection, AccountRecord, select(accounts).where(accounts.c.id == job_account(job_id)))

    def usage(self, job_id: str) -> Usage:
        return self.usages([job_id])[job_id]

    def usages(self, job_ids: Sequence[str]) -> dict[str, Usage]:
        """By job, in one query."""
        if not job_ids:
            return {}
        with reading(self.engine) as connection:
            rows = connection.execute(of_jobs(), {"jobs": list(job_ids)}).all()
        return {job_id: Usage() for job_id in job_ids} | {job_id: usage_of(tuple(totals)) for job_id, *totals in rows}

    def usage_by_phase(self, job_id: str) -> dict[str, Usage]:
        """Usage by phase; a phase without a call has no entry."""
        query = summed(calls.c.phase).where(calls.c.job_id == job_id).group_by(calls.c.phase)
        with reading(self.engine) as connection:
            rows = connection.execute(query).all()
        return {phase or "": usage_of(tuple(totals)) for phase, *totals in rows}


def any_limit(limits: Limits) -> bool:
    return any(limit is not None for limit in limits)


def _paying(call: CallRecord) -> list[str]:
    return paying(call.project_id, call.job_id, call.key_id, call.created_at)


def _held(call: CallRecord) -> Amount:
    return Amount(call.reserved_usd, call.reserved_tokens)


def open_ledger(url: str, project_limits: Limits | None = None, gateway: str | None = None) -> Ledger:
    """Migrate if needed and open. project_limits, gateway: as for Ledger; the limits are told to all who open it later."""
    upgrade(url, MIGRATIONS, "alembic_version_ledger")
    ledger = Ledger(engine_for(url), project_limits, gateway)
    if project_limits is not None:
        ledger.set_standing_limits(EVERY_PROJECT, project_limits)
    return ledger
