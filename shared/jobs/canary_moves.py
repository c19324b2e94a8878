"""The parts of a canary's moves: statements inside the caller's transaction."""

from sqlalchemy import ColumnElement, Connection, Table, delete, select

from shared.contracts.json_types import Json
from shared.contracts.notices import NoticeKind
from shared.contracts.webhooks import WebhookEvent
from shared.db.fetch import fetch_first
from shared.jobs.notices import add_notice
from shared.jobs.records import CanaryRecord
from shared.jobs.tables import canaries, canary_counts, canary_units


def of_alias(table: Table, project_id: str, alias: str) -> ColumnElement[bool]:
    return (table.c.project_id == project_id) & (table.c.alias == alias)


def end_canary(
    connection: Connection,
    project_id: str,
    alias: str,
    type: str,
    message: str,
    data: Json,
    *,
    level: str = "info",
    webhook: WebhookEvent | None = None,
) -> bool:
    """Remove the alias's canary with its counts, and tell why. False: it has none."""
    query = select(canaries).where(of_alias(canaries, project_id, alias)).with_for_update()
    canary = fetch_first(connection, CanaryRecord, query)
    if canary is None:
        return False
    connection.execute(delete(canaries).where(of_alias(canaries, project_id, alias)))
    if canary.id is not None:
        for table in (canary_counts, canary_units):
            connection.execute(delete(table).where(table.c.canary_id == canary.id))
    told = {"id": canary.id or alias, "alias": alias} | data
    add_notice(connection, project_id, NoticeKind.CANARY, alias, type, message, told, level=level, webhook=webhook)
    return True
