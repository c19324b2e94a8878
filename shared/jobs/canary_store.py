"""Canaries: a version that is tried beside the one its alias serves. A canary ends when the alias moves (see Catalog)."""

import time
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, Table, delete, select

from shared.contracts.errors import Conflict, NotFound
from shared.db.engine import reading, upsert, writing
from shared.db.fetch import fetch_first, fetch_one
from shared.jobs.catalog import LIVE, ref_of
from shared.jobs.records import CanaryRecord, ModelRecord
from shared.jobs.tables import aliases, canaries, models


@dataclass(frozen=True, slots=True)
class Canary:
    """percent: share of conversations that the tried version answers. shadow: it only gets copies of requests.
    since: Unix seconds of its start or last change."""

    served: ModelRecord
    tried: ModelRecord
    percent: float
    shadow: bool
    since: float


def _of(table: Table, project_id: str, alias: str) -> ColumnElement[bool]:
    return (table.c.project_id == project_id) & (table.c.alias == alias)


class CanaryStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def set(self, project_id: str, alias: str, version: int, percent: float, shadow: bool) -> Canary:
        """Start a canary or change the present one. Raises NotFound, Conflict."""
        now = time.time()
        with writing(self.engine) as connection:
            served = _served(connection, project_id, alias, lock=True)  # the alias must not move in between
            query = select(models).where(_of(models, project_id, alias), models.c.version == version, LIVE)
            tried = fetch_first(connection, ModelRecord, query.with_for_update(read=True))
            if tried is None:
                raise NotFound(f"no model {alias}@{version}", param="version", code="model_not_found")
            _check(served, tried)
            values = {"model_id": tried.id, "percent": percent, "shadow": shadow, "created_at": now}
            upsert(connection, canaries, {"project_id": project_id, "alias": alias} | values)
        return Canary(served, tried, percent, shadow, now)

    def get(self, project_id: str, alias: str) -> Canary | None:
        with reading(self.engine) as connection:
            query = select(canaries).where(_of(canaries, project_id, alias))
            canary = fetch_first(connection, CanaryRecord, query)
            if canary is None:
                return None
            tried = fetch_one(connection, ModelRecord, select(models).where(models.c.id == canary.model_id))
            served = _served(connection, project_id, alias)
        return Canary(served, tried, canary.percent, canary.shadow, canary.created_at)

    def end(self, project_id: str, alias: str) -> bool:
        """Whether the alias had a canary."""
        with writing(self.engine) as connection:
            return connection.execute(delete(canaries).where(_of(canaries, project_id, alias))).rowcount > 0


def _served(connection: Connection, project_id: str, alias: str, lock: bool = False) -> ModelRecord:
    query = select(models).join(aliases, aliases.c.model_id == models.c.id).where(_of(aliases, project_id, alias))
    served = fetch_first(connection, ModelRecord, query.with_for_update(of=aliases) if lock else query)
    if served is None:
        raise NotFound(f"no alias {alias!r} is served", param="model", code="model_not_found")
    return served


def _check(served: ModelRecord, tried: ModelRecord) -> None:
    name = f"{tried.alias}@{tried.version}"
    if served.id == tried.id:
        raise Conflict(f"{name} is already served", param="version", code="version_is_served")
    if ref_of(served).served_by != ref_of(tried).served_by:
        raise Conflict(
            f"one engine cannot serve both {name} and {served.alias}@{served.version}: both must be adapters on the same base. "
            "Request them by their names, or promote",
            param="version",
            code="not_served_together",
        )
