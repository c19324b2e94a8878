"""Notices: written in the transaction of the change that they report, with the webhook deliveries about it, and read newest first."""

import time

import uuid_utils
from sqlalchemy import Connection, Engine, insert, select

from shared.contracts.json_types import Json
from shared.contracts.notices import NoticeKind
from shared.contracts.webhooks import WebhookEvent
from shared.db.paging import keyset_page
from shared.jobs.outbox import announce_other
from shared.jobs.records import NoticeRecord
from shared.jobs.tables import notices


def add_notice(
    connection: Connection,
    project_id: str,
    kind: NoticeKind,
    subject: str,
    type: str,
    message: str,
    data: Json,
    *,
    level: str = "info",
    webhook: WebhookEvent | None = None,
) -> None:
    """webhook: what endpoints are told, with the same data."""
    values = {
        "id": f"notice-{uuid_utils.uuid7().hex}",
        "project_id": project_id,
        "kind": kind,
        "subject": subject,
        "level": level,
        "type": type,
        "message": message,
        "data": data,
        "created_at": time.time(),
    }
    connection.execute(insert(notices).values(**values))
    if webhook is not None:
        announce_other(connection, project_id, webhook, data | {"message": message})


class NoticeStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def page(
        self, project_id: str, kind: NoticeKind, subject: str, after: str | None, limit: int
    ) -> tuple[list[NoticeRecord], bool]:
        """Newest first. Raises UserError for an unknown `after`."""
        mine = (notices.c.project_id == project_id) & (notices.c.kind == kind) & (notices.c.subject == subject)
        return keyset_page(self.engine, NoticeRecord, select(notices).where(mine), notices.c.id, after, limit, "event")
