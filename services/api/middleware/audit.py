"""Writes the audit log: an entry for each request of a known caller that may change something. Bodies are not stored."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.contracts import keys
from shared.jobs.records import AuditEntry
from shared.platform.log import get_logger

log = get_logger(__name__)
READS = ("GET", "HEAD", "OPTIONS")
CHATS = (keys.Scope.CHAT,)  # a chat changes nothing, and there are many
LONGEST_ID = 200
MOST_BYTES = 1 << 20  # a longer response is not searched for the id of a new object


class AuditTrail:
    """Pure ASGI middleware: the entry is written before the response goes out, so a client with the response finds it."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READS:
            return await self.app(scope, receive, send)
        start: Message | None = None

        async def send_audited(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                body = b"" if message.get("more_body") else message.get("body", b"")
                await _add_entry(scope, start["status"], body)
                held, start = start, None
                await send(held)
            await send(message)

        try:
            await self.app(scope, receive, send_audited)
        except Exception:
            await _add_entry(scope, 500, b"")  # an outer layer sends the response
            raise


async def _add_entry(scope: Scope, status: int, body: bytes) -> None:
    """Unknown callers leave no entry, since strangers could fill the database. A request is answered as it ended even if its
    entry cannot be written; then the process's log holds it."""
    state = scope.get("state", {})
    caller = state.get("caller")
    if caller is None or state.get("needed") == CHATS:
        return
    entry = AuditEntry(
        caller=caller.name,
        method=scope["method"],
        route=getattr(scope.get("route"), "path_format", "unmatched"),
        object_id=_object_id(scope.get("path_params", {}), body),
        status=status,
        request_id=state.get("request_id", ""),
    )
    try:
        await run_in_threadpool(scope["app"].state.context.stores.audit.add, caller.project, entry)
    except SQLAlchemyError as error:
        log.error("not in the audit log", project=caller.project, **asdict(entry), error=repr(error))


def _object_id(path_params: Mapping[str, object], body: bytes) -> str | None:
    """The object of the request: what its path names, else the id in the response."""
    name = "/".join(str(value) for value in path_params.values()) or _id_in(body)
    return "".join(c for c in name if c.isprintable())[:LONGEST_ID] if name else None


def _id_in(body: bytes) -> str | None:
    if not 0 < len(body) <= MOST_BYTES:
        return None
    try:
        value = json.loads(body)
    except ValueError:
        return None
    object_id = value.get("id") if isinstance(value, dict) else None
    return object_id if isinstance(object_id, str) else None
