"""Idempotency-Key: a request that is sent again, because its answer was lost, is done once.

`dependencies=[once]` on a route that changes something; what is around the handlers keeps the answer before it goes out.
Where the answer is a secret (a new API key, another secret of a webhook) or the body is a stream (an upload, a chat) there is none, and the
header is ignored; so it is where nothing is changed or asking again does no harm (deletions).
"""

import hashlib
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from services.api.deps import Context, Project
from shared.contracts.errors import UserError
from shared.jobs.answer_store import AnswerClaim
from shared.platform.log import get_logger

log = get_logger(__name__)
KEPT_HEADERS = ("content-type", "location")

Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x20-\x7e]+$")]


class InFlight(UserError):
    """The same request is being done this moment: ask again for its answer."""

    status = 409
    code = "idempotency_key_in_flight"
    should_retry = True
    retry_after_s = 1


class OtherRequest(UserError):
    status = 422
    code = "idempotency_key_reused"


class Replayed(Exception):
    """The request was done before; this is its answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes):
        super().__init__()
        self.status, self.headers, self.body = status, headers, body


async def _once(request: Request, context: Context, project: Project, key: Key = None) -> None:
    """Raises Replayed, InFlight or OtherRequest where the key was used before."""
    if key is None:
        return
    asked = f"{request.method} {request.url.path}?{request.url.query}\n".encode() + await request.body()
    digest = hashlib.sha256(asked).hexdigest()
    found = await run_in_threadpool(context.stores.answers.begin, project, key, digest)
    if isinstance(found, AnswerClaim):
        request.state.claim = found
    elif found.digest != digest:
        raise OtherRequest("this Idempotency-Key was used with another request", param="Idempotency-Key")
    elif found.status is None:
        raise InFlight("the request with this Idempotency-Key is still being done", param="Idempotency-Key")
    else:
        raise Replayed(found.status, found.headers or {}, found.body or b"")


once = Depends(_once)


def is_kept(request: Request) -> bool:
    """Whether the answer is going to be kept: then no secret may stand in it."""
    return hasattr(request.state, "claim")


async def on_replayed(_: Request, answer: Exception) -> Response:
    assert isinstance(answer, Replayed)
    headers = answer.headers | {"idempotent-replayed": "true"}
    return Response(answer.body, status_code=answer.status, headers=headers)


class KeptAnswers:
    """Pure ASGI middleware: the answer to a request that `once` let through is kept under its key, before it goes out.

    Refusals and failures are not kept: nothing was done, and the same request may be taken later.
    """

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or not any(name == b"idempotency-key" for name, _ in scope["headers"]):
            return await self.app(scope, receive, send)
        start: dict[str, Any] = {}
        parts: list[bytes] = []

        async def send_kept(message):
            claim = scope.get("state", {}).get("claim")
            if claim is None:
                return await send(message)
            if message["type"] == "http.response.start":
                start.update(message)
                return None
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                await _settle(scope, claim, start, b"".join(parts))
                await send(start)
                await send({"type": "http.response.body", "body": b"".join(parts)})

        try:
            await self.app(scope, receive, send_kept)
        except Exception:
            if claim := scope.get("state", {}).get("claim"):
                await _settle(scope, claim, {"status": 500}, b"")
            raise


async def _settle(scope, claim: AnswerClaim, start: dict[str, Any], body: bytes) -> None:
    """A database that went away in between loses the answer, not the request: the key is free after a while."""
    answers = scope["app"].state.context.stores.answers
    try:
        if start["status"] >= 400:
            await run_in_threadpool(answers.drop, claim)
        else:
            given = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
            headers = {name: given[name] for name in KEPT_HEADERS if name in given}
            await run_in_threadpool(answers.keep, claim, start["status"], headers, body)
    except SQLAlchemyError as error:
        log.error("answer not kept", key=claim.key, error=repr(error))
