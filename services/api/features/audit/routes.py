"""/v1/audit, and what writes it: around every request of a known caller that may change something."""

from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from services.api.deps import Asking, Context, needs
from services.api.features.audit import service as audit
from services.api.responses.lists import DEFAULT_LIMIT, After, Limit, listed
from shared.contracts.keys import AuditEntry, Scope
from shared.contracts.views import Listed

READS = ("GET", "HEAD", "OPTIONS")
CHATS = (Scope.CHAT,)  # a chat changes nothing, and there are many

router = APIRouter(prefix="/v1/audit", tags=["audit"], dependencies=[needs(Scope.ADMIN)])


@router.get("", response_model=Listed[AuditEntry])
def list_audit(context: Context, caller: Asking, after: After = None, limit: Limit = DEFAULT_LIMIT) -> dict[str, Any]:
    """Newest first; a project's admin sees the requests of that project's keys, the operator all."""
    return listed(*audit.page(context, caller.view, after, limit))


class AuditTrail:
    """Pure ASGI middleware: the entry is written before the answer goes out, so who has the answer finds the entry."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] in READS:
            return await self.app(scope, receive, send)
        start: dict[str, Any] | None = None

        async def send_noted(message):
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                answer = b"" if message.get("more_body") else message.get("body", b"")
                await _note(scope, start["status"], answer)
                held, start = start, None
                await send(held)
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        except Exception:
            await _note(scope, 500, b"")  # the answer is made outside
            raise


async def _note(scope, status: int, answer: bytes) -> None:
    """Who is not known leaves no entry: strangers could fill the database."""
    state = scope.get("state", {})
    caller = state.get("caller")
    if caller is None or state.get("needed") == CHATS:
        return
    await run_in_threadpool(
        audit.note,
        scope["app"].state.context,
        caller.project,
        caller=caller.name,
        method=scope["method"],
        route=getattr(scope.get("route"), "path_format", "unmatched"),
        object_id=audit.object_of(scope.get("path_params", {}), answer),
        status=status,
        request_id=state.get("request_id", ""),
    )
