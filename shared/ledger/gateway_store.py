"""The gateways that run: each renews a lease, and calls of one whose lease is over are lost."""

import time

from sqlalchemy import ColumnElement, Engine, and_, delete, func, or_, select

from shared.db.engine import reading, upsert, writing
from shared.ledger.tables import calls, gateways


class GatewayStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def renew(self, gateway: str, lease_s: float) -> None:
        """Begin or go on. gateway: its name, which one process has at a time."""
        now = time.time()
        values = {"id": gateway, "started_at": now, "lease_expires": now + lease_s}
        with writing(self.engine) as connection:
            upsert(connection, gateways, values, keep=["started_at"])

    def leave(self, gateway: str) -> None:
        with writing(self.engine) as connection:
            connection.execute(delete(gateways).where(gateways.c.id == gateway))

    def leads(self, gateway: str) -> bool:
        """Whether this one does what one gateway does for all: the oldest that runs."""
        live = select(gateways.c.id).where(gateways.c.lease_expires >= time.time())
        with reading(self.engine) as connection:
            first = connection.execute(
                live.order_by(gateways.c.started_at, gateways.c.id).limit(1)
            ).scalar_one_or_none()
        return first == gateway


def is_lost(now: float, starting: str | None) -> ColumnElement[bool]:
    """Of an open call: nobody waits for its answer any more. starting: a gateway that begins now, whose calls are of its former life."""
    live = select(gateways.c.id).where(gateways.c.lease_expires >= now)
    if starting is not None:
        live = live.where(gateways.c.id != starting)
    of_nobody = or_(calls.c.gateway.is_(None), calls.c.gateway.not_in(live))
    return and_(calls.c.state == "intent", calls.c.batch_id.is_(None), of_nobody)


def others(now: float, gateway: str | None) -> ColumnElement[int]:
    """How many more run."""
    running = select(func.count()).select_from(gateways).where(gateways.c.lease_expires >= now)
    return (running if gateway is None else running.where(gateways.c.id != gateway)).scalar_subquery()
