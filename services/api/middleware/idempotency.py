"""Idempotency-Key: a request that a client repeats, because the response was lost, is executed once.

`dependencies=[once]` on a route that changes something; the middleware stores its response before it goes out. Routes whose response
is a secret (a new API key, a rotated webhook secret) or whose body is a stream (an upload, a chat) lack it and ignore the header;
so do routes that change nothing or may be repeated safely (deletions).
"""

import asyncio
import hashlib
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.deps import Context
from shared.contracts.errors import UserError
from shared.jobs.answer_store import LOST_S, AnswerClaim
from shared.platform.log import get_logger

log = get_logger(__name__)
STORED_HEADERS = ("content-type", "location")
RENEW_S = LOST_S / 4

Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x20-\x7e]+$")]


class InFlight(UserError):
    """The first request with this key is still running: ask again for its response."""

    status = 409
    code = "idempotency_key_in_flight"
    should_retry = True
    retry_after_s = 1


class OtherRequest(UserError):
    status = 422
    code = "idempotency_key_reused"


class Replayed(Exception):
    """The request was executed before; this is its response."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes):
        super().__init__()
        self.status, self.headers, self.body = status, headers, body


async def _once(request: Request, context: Context, key: Key = None) -> None:
    """Raises Replayed, InFlight or OtherRequest if the key was used before."""
    if key is None:
        return
    content = f"{request.method} {request.url.path}?{request.url.query}\n".encode() + await request.body()
    digest = hashlib.sha256(content).hexdigest()
    answer = await run_in_threadpool(context.stores.answers.begin, context.project, key, digest)
    if isinstance(answer, AnswerClaim):
        request.state.claim = answer
    elif answer.digest != digest:
        raise OtherRequest("this Idempotency-Key was used with another request", param="Idempotency-Key")
    elif answer.status is None:
        raise InFlight("the request with this Idempotency-Key is still being done", param="Idempotency-Key")
    else:
        raise Replayed(answer.status, answer.headers or {}, answer.body or b"")


once = Depends(_once)


def is_stored(request: Request) -> bool:
    """Whether the response will be stored: then it must hold no secret."""
    return hasattr(request.state, "claim")


async def on_replayed(_: Request, answer: Exception) -> Response:
    assert isinstance(answer, Replayed)
    headers = answer.headers | {"idempotent-replayed": "true"}
    return Response(answer.body, status_code=answer.status, headers=headers)


class StoredResponses:
    """Pure ASGI middleware: stores the response to a request that `once` let through, before it goes out.

    Refusals and failures are not stored: nothing was changed, and the same request may succeed later. While a request is at work its claim
    is renewed, so that a repeated one is not done beside it, however long it takes.
    """

    def __init__(self, app: ASGIApp, renew_s: float = RENEW_S):
        self.app = app
        self.renew_s = renew_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not any(name == b"idempotency-key" for name, _ in scope["headers"]):
            return await self.app(scope, receive, send)
        start: Message = {}
        parts: list[bytes] = []
        settling = asyncio.Lock()  # no renewal while the response is stored
        renewing = asyncio.create_task(self._renew(scope, settling))

        async def send_stored(message: Message) -> None:
            claim = scope.get("state", {}).get("claim")
            if claim is None:
                return await send(message)
            if message["type"] == "http.response.start":
                start.update(message)
                return None
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                async with settling:
                    await _settle(scope, start, b"".join(parts))
                await send(start)
                await send({"type": "http.response.body", "body": b"".join(parts)})

        try:
            await self.app(scope, receive, send_stored)
        except Exception:
            if scope.get("state", {}).get("claim"):
                async with settling:
                    await _settle(scope, {"status": 500}, b"")
            raise
        finally:
            renewing.cancel()

    async def _renew(self, scope: Scope, settling: asyncio.Lock) -> None:
        while True:
            await asyncio.sleep(self.renew_s)
            claim = scope.get("state", {}).get("claim")
            if claim is None:
                continue
            async with settling:
                try:
                    renewed = await run_in_threadpool(scope["app"].state.context.stores.answers.renew, claim)
                except SQLAlchemyError as error:
                    log.warning("claim of a request not renewed", key=claim.key, error=repr(error))
                    continue
                if renewed is None:
                    return
                scope["state"]["claim"] = renewed


async def _settle(scope: Scope, start: Message, body: bytes) -> None:
    """If the database fails now, the stored response is lost, not the request: the claim expires after a while."""
    answers, claim = scope["app"].state.context.stores.answers, scope["state"]["claim"]
    try:
        if start["status"] >= 400:
            await run_in_threadpool(answers.drop, claim)
        else:
            given = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
            headers = {name: given[name] for name in STORED_HEADERS if name in given}
            await run_in_threadpool(answers.keep, claim, start["status"], headers, body)
    except SQLAlchemyError as error:
        log.error("response not stored", key=claim.key, error=repr(error))
