"""The gateway's routes. OpenAI-compatible, so that any client of that protocol can stand before it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from services.strong_model.gateway.call import Answer, Ticket
from services.strong_model.gateway.coalesce import Calls
from services.strong_model.gateway.completions import OWN, chunks_of
from services.strong_model.gateway.errors import TeacherFailure
from services.strong_model.gateway.provider import ProviderClient
from services.strong_model.settings import DEFAULT
from shared.contracts.errors import BudgetExceeded, MeteorError, NotFound, UserError, as_body
from shared.jobs.tables import DEFAULT_PROJECT
from shared.ledger.store import CallOrigin
from shared.platform.call_headers import (
    BATCH_HEADER,
    CACHE_HEADER,
    CALL_HEADER,
    CLIENT_HEADER,
    EXAMPLE_HEADER,
    ORIGIN_HEADERS,
    SAMPLE_HEADER,
)
from shared.platform.http import bearer, error_response, same_secret
from shared.platform.settings import platform_settings

HUNG_UP = 499  # never seen by anyone; the caller is gone


def authorize(request: Request) -> None:
    expected = platform_settings().internal_token.get_secret_value()
    if not same_secret(bearer(request), expected):
        raise UserError(
            "send METEOR_INTERNAL_TOKEN as `Authorization: Bearer ...`", code="invalid_internal_token", status=401
        )


def desk_of(request: Request) -> Calls:
    return request.app.state.calls


Desk = Annotated[Calls, Depends(desk_of)]
router = APIRouter(dependencies=[Depends(authorize)])
health = APIRouter()


class ChatBody(BaseModel):
    """What the gateway itself reads; everything else goes to the provider as it came."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(min_length=1)
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None

    def upstream(self, model: str) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True, exclude={"stream", "stream_options"}) | {"model": model}


class CancelBody(BaseModel):
    """client_id: only that client's calls of the step; without it all of the step's."""

    step_id: str = Field(min_length=1)
    client_id: str | None = None


@router.post("/v1/chat/completions")
async def chat(body: ChatBody, request: Request, desk: Desk) -> Response:
    client = choose(desk.clients, body.model)
    upstream, origin = body.upstream(client.provider.model), _origin(request)
    asked_by, sample = (request.headers.get(name) for name in (CLIENT_HEADER, SAMPLE_HEADER))
    if request.headers.get(BATCH_HEADER) == "1" and not body.stream:
        found = await request.app.state.batches.ask(client.provider, upstream, origin)
        if found is not None:
            return JSONResponse(found, headers={CALL_HEADER: found[OWN]["call_id"]})
    while True:
        ticket = desk.open(client, upstream, origin, asked_by, bool(body.stream), sample)
        try:
            return await _answered(request, desk, ticket, body)
        except TeacherFailure as failure:
            return _failed(failure)
        except BudgetExceeded as error:
            if ticket.first or error.job_id in (None, origin.job_id):
                raise  # else it joined a call that another job could not pay for; this one may


async def _answered(request: Request, desk: Calls, ticket: Ticket, body: ChatBody) -> Response:
    if body.stream:
        include_usage = bool((body.stream_options or {}).get("include_usage"))
        return await _streamed(request, desk, ticket, include_usage)
    answer = await _while_connected(request, ticket.call.task)
    if answer is None:
        ticket.leave()
        return Response(status_code=HUNG_UP)
    return JSONResponse(answer.body, headers=await _marks(desk, ticket, answer))


@router.get("/v1/models")
async def models(desk: Desk) -> dict[str, Any]:
    """The providers by name; `root` is the model behind each, prices are USD per million tokens."""
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "meteor", "root": client.provider.model}
        | {name: getattr(client.provider, name) for name in ("price_input", "price_output", "batch_price")}
        for name, client in desk.clients.items()
    ]
    return {"object": "list", "data": data}


@router.post("/internal/cancel")
async def cancel(body: CancelBody, desk: Desk) -> dict[str, int]:
    return {"cancelled": await desk.cancel(body.step_id, body.client_id)}


@health.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@health.get("/readyz")
async def readyz(desk: Desk) -> JSONResponse:
    """503 until every configured provider answers; says which does not and why."""
    states = {name: await _state(client) for name, client in desk.clients.items()}
    if not states:
        states[DEFAULT] = {"ready": False, "code": "teacher_not_configured", "message": NOT_CONFIGURED}
    ready = all(state["ready"] for state in states.values())
    return JSONResponse({"status": "ready" if ready else "not ready", "providers": states}, 200 if ready else 503)


NOT_CONFIGURED = (
    "no strong model is configured under the name default; set METEOR_TEACHER_BASE_URL and METEOR_TEACHER_MODEL for the "
    "gateway, or let METEOR_PROVIDERS_FILE have one of that name"
)


def choose(clients: dict[str, ProviderClient], model: str) -> ProviderClient:
    """By the provider's name, else by its model's name."""
    found = clients.get(model) or next((c for c in clients.values() if c.provider.model == model), None)
    if found is not None:
        return found
    if model == DEFAULT:
        raise UserError(NOT_CONFIGURED, param="model", code="teacher_not_configured")
    known = ", ".join(clients) or "none"
    raise NotFound(f"no provider or model named {model!r}; known: {known}", param="model", code="model_not_found")


async def _state(client: ProviderClient) -> dict[str, Any]:
    try:
        await client.ping()
    except TeacherFailure as failure:
        return {"ready": False, "code": failure.code, "message": failure.message}
    return {"ready": True}


def _origin(request: Request) -> CallOrigin:
    project, job, step, phase = (unquote(request.headers.get(name, "")) or None for name in ORIGIN_HEADERS)
    example = unquote(request.headers.get(EXAMPLE_HEADER, "")) or None
    return CallOrigin(project or DEFAULT_PROJECT, job, step, phase, example)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _while_connected(request: Request, work: asyncio.Future) -> Any:
    """The result of work, which is never cancelled from here; None when the caller hung up first."""
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        gone.cancel()


async def _marks(desk: Calls, ticket: Ticket, answer: Answer) -> dict[str, str]:
    """Headers that tell which call answered and whether it cost anything."""
    marks = {CALL_HEADER: answer.body[OWN]["call_id"]}
    if not ticket.first:
        await desk.note_cached(ticket.call, ticket.caller.origin, answer.body)
        return marks | {CACHE_HEADER: "shared"}
    return marks | ({CACHE_HEADER: "hit"} if answer.kept else {})


def _failed(failure: TeacherFailure) -> JSONResponse:
    headers = {CALL_HEADER: failure.call_id} if failure.call_id else {}
    if failure.status in (429, 503):
        headers["retry-after"] = str(max(1, round(failure.retry_after or 2)))
    return error_response(failure.body(), failure.status, headers)


async def _streamed(request: Request, desk: Calls, ticket: Ticket, include_usage: bool) -> Response:
    """A live stream for the caller that opened the call; the whole answer as a stream for all others."""
    call = ticket.call
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    if ticket.first and call.chunks is not None:
        first = asyncio.ensure_future(call.chunks.get())
        await _while_connected(request, first)
        if not first.done():
            first.cancel()
            ticket.leave()
            return Response(status_code=HUNG_UP)
        if (chunk := first.result()) is not None:
            headers[CALL_HEADER] = call.call_id or ""
            return StreamingResponse(_live(ticket, chunk, include_usage), 200, headers, "text/event-stream")
    answer = await _while_connected(request, call.task)
    if answer is None:
        ticket.leave()
        return Response(status_code=HUNG_UP)
    headers |= await _marks(desk, ticket, answer)
    return StreamingResponse(_replayed(answer, include_usage), 200, headers, "text/event-stream")


def _event(data: Any) -> str:
    return f"data: {json.dumps(data, separators=(',', ':'), ensure_ascii=False)}\n\n"


async def _live(ticket: Ticket, chunk: dict[str, Any] | None, include_usage: bool) -> AsyncIterator[str]:
    """Chunks as the provider sends them; its usage chunk only for who asked; a late failure as an error event."""
    call = ticket.call
    assert call.chunks is not None
    try:
        while chunk is not None:
            if chunk.get("choices") or include_usage:
                yield _event(chunk)
            chunk = await call.chunks.get()
        try:
            await asyncio.shield(call.task)
            yield "data: [DONE]\n\n"
        except MeteorError as error:
            yield _event({"error": as_body(error).model_dump()})
    finally:
        ticket.leave()


async def _replayed(answer: Answer, include_usage: bool) -> AsyncIterator[str]:
    for chunk in chunks_of(answer.body, include_usage):
        yield _event(chunk)
    yield "data: [DONE]\n\n"
