"""The ledger: an intent row is committed before a call is sent and settled after it; answers are kept by content."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import uuid_utils
from sqlalchemy import Engine, case, func, insert, select, update

from shared.contracts.jobs import Usage
from shared.ledger.tables import answers, calls
from shared.platform.database import engine_for, insert_once, reading, upgrade, writing

MIGRATIONS = Path(__file__).parent / "migrations"


class CallOrigin(NamedTuple):
    """For whom a call is made; all but the project may be None (a person using the gateway directly)."""

    project_id: str
    job_id: str | None = None
    step_id: str | None = None
    phase: str | None = None
    example_id: str | None = None


class Ledger:
    def __init__(self, engine: Engine):
        self.engine = engine

    def begin(self, origin: CallOrigin, provider: str, model: str, request_hash: str) -> str:
        """Commit the intent; returns the call's id. Only then may the request be sent."""
        call_id = f"call-{uuid_utils.uuid7().hex}"
        row = origin._asdict() | {
            "id": call_id,
            "provider": provider,
            "model": model,
            "request_hash": request_hash,
            "state": "intent",
            "created_at": time.time(),
        }
        with writing(self.engine) as connection:
            connection.execute(insert(calls).values(**row))
        return call_id

    def settle(
        self,
        call_id: str,
        outcome: str,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        usd: float = 0.0,
        latency_ms: float | None = None,
        error: str | None = None,
        keep: dict[str, Any] | None = None,
    ) -> None:
        """Note how the call ended; `keep` stores the answer in the same transaction, so what was paid is never lost."""
        now = time.time()
        with writing(self.engine) as connection:
            row = connection.execute(
                update(calls)
                .where(calls.c.id == call_id)
                .values(
                    state="settled",
                    outcome=outcome,
                    input_tokens=input_tokens,
                    output_tokens=output_tokens,
                    usd=usd,
                    latency_ms=latency_ms,
                    error=error,
                    settled_at=now,
                )
                .returning(calls.c.project_id, calls.c.request_hash)
            ).one()
            if keep is not None:
                key = {"project_id": row.project_id, "request_hash": row.request_hash}
                # twice the same request at once: the first answer stays, both calls were paid for
                insert_once(connection, answers, key | {"call_id": call_id, "response": keep, "created_at": now})

    def kept(self, project_id: str, request_hash: str) -> dict[str, Any] | None:
        """The answer to the same request of the same project, if one was paid for before."""
        where = (answers.c.project_id == project_id) & (answers.c.request_hash == request_hash)
        with reading(self.engine) as connection:
            return connection.execute(select(answers.c.response).where(where)).scalar_one_or_none()

    def note_cached(self, origin: CallOrigin, provider: str, model: str, request_hash: str) -> None:
        """A call that cost nothing because its answer was kept."""
        now = time.time()
        row = origin._asdict() | {
            "id": f"call-{uuid_utils.uuid7().hex}",
            "provider": provider,
            "model": model,
            "request_hash": request_hash,
            "state": "settled",
            "outcome": "cached",
            "cached": True,
            "created_at": now,
            "settled_at": now,
        }
        with writing(self.engine) as connection:
            connection.execute(insert(calls).values(**row))

    def mark_unknown(self) -> int:
        """At the gateway's start: what an earlier process sent and never settled may have been paid for."""
        with writing(self.engine) as connection:
            return connection.execute(
                update(calls).where(calls.c.state == "intent").values(state="unknown", settled_at=time.time())
            ).rowcount

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
        ]
        query = select(*columns).where(calls.c.job_id == job_id)
        if group is not None:
            query = query.add_columns(group.label("phase")).group_by(group)
        with reading(self.engine) as connection:
            rows = connection.execute(query).mappings().all()
        return {(row.get("phase") or ""): {k: v for k, v in row.items() if k != "phase"} for row in rows}


def open_ledger(url: str) -> Ledger:
    """Migrate if needed and open."""
    upgrade(url, MIGRATIONS, "alembic_version_ledger")
    return Ledger(engine_for(url))
