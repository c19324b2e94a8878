"""The gateway's routes. OpenAI-compatible, so that any client of that protocol can use it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from services.strong_model.gateway.call import Answer, Ticket
from services.strong_model.gateway.chain import Gateway
from services.strong_model.gateway.completions import OWN
from services.strong_model.gateway.errors import ProviderError
from services.strong_model.gateway.probe import report_on
from services.strong_model.gateway.provider import ProviderClient
from services.strong_model.gateway.providers import DEFAULT, Provider
from services.strong_model.gateway.streams import chunks_of
from shared.contracts.errors import BudgetExceeded, MeteorError, NotFound, UserError, as_body
from shared.contracts.json_types import Json
from shared.contracts.providers import ProviderReport, ProvidersStatus, ProviderStatus
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
from shared.platform.disconnect import Stream, until_disconnected
from shared.platform.http import bearer, error_response, same_secret
from shared.platform.settings import platform_settings

CLIENT_DISCONNECTED = 499  # nobody receives it
NOT_CONFIGURED = (
    "no strong model is configured under the name default; set METEOR_TEACHER_BASE_URL and METEOR_TEACHER_MODEL for the "
    "gateway, or let METEOR_PROVIDERS_FILE have one of that name"
)


def authorize(request: Request) -> None:
    expected = platform_settings().internal_token.get_secret_value()
    if not same_secret(bearer(request), expected):
        raise UserError(
            "send METEOR_INTERNAL_TOKEN as `Authorization: Bearer ...`", code="invalid_internal_token", status=401
        )


def gateway_of(request: Request) -> Gateway:
    return request.app.state.gateway


OpenGateway = Annotated[Gateway, Depends(gateway_of)]
router = APIRouter(dependencies=[Depends(authorize)])
health = APIRouter()


class ChatBody(BaseModel):
    """What the gateway itself reads; everything else goes to the provider as it came."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(min_length=1)
    messages: list[Json] = Field(min_length=1)
    stream: bool | None = False
    stream_options: Json | None = None

    def upstream(self, model: str) -> Json:
        return self.model_dump(exclude_unset=True, exclude={"stream", "stream_options"}) | {"model": model}


class CancelBody(BaseModel):
    """client_id: only that client's calls of the step; without it all of the step's."""

    step_id: str = Field(min_length=1)
    client_id: str | None = None


@router.post("/v1/chat/completions")
async def chat(body: ChatBody, request: Request, gateway: OpenGateway) -> Response:
    provider, origin = choose(gateway.providers, body.model), _origin(request)
    upstream = body.upstream(provider.model)
    client_id, sample = (request.headers.get(name) for name in (CLIENT_HEADER, SAMPLE_HEADER))
    if request.headers.get(BATCH_HEADER) == "1" and not body.stream:
        answer = await request.app.state.batches.ask(provider, upstream, origin)
        if answer is not None:
            return JSONResponse(answer, headers={CALL_HEADER: answer[OWN]["call_id"]})
    while True:
        ticket = gateway.calls.open(provider, upstream, origin, client_id, bool(body.stream), sample)
        try:
            return await _answered(request, gateway, ticket, body)
        except ProviderError as failure:
            return _failed(failure)
        except BudgetExceeded as error:
            if ticket.first or error.job_id in (None, origin.job_id):
                raise  # otherwise it joined a call that another job could not pay for


async def _answered(request: Request, gateway: Gateway, ticket: Ticket, body: ChatBody) -> Response:
    """A live stream for the caller that opened a streamed call, else the whole answer, as a stream where one was asked for."""
    call = ticket.call
    include_usage = bool((body.stream_options or {}).get("include_usage"))
    if body.stream and ticket.first and call.chunks is not None:
        chunk = await until_disconnected(request, call.chunks.get())
        if chunk is not None:
            return _event_stream(_live(ticket, call.chunks, chunk, include_usage), {CALL_HEADER: call.call_id or ""})
    answer = await until_disconnected(request, asyncio.shield(call.task))
    if answer is None:
        ticket.leave()
        return Response(status_code=CLIENT_DISCONNECTED)
    headers = await _call_headers(gateway, ticket, answer)
    if body.stream:
        return _event_stream(_events(chunks_of(answer.body, include_usage)), headers)
    return JSONResponse(answer.body, headers=headers)


@router.get("/v1/models")
async def models(gateway: OpenGateway) -> Json:
    """The providers by name; `root` is the model behind each, prices are USD per million tokens."""
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "meteor", "root": provider.model}
        | {price: getattr(provider, price) for price in ("price_input", "price_output", "batch_price")}
        for name, provider in gateway.providers.items()
    ]
    return {"object": "list", "data": data}


@router.get("/internal/providers")
async def learned(gateway: OpenGateway) -> ProvidersStatus:
    """What was learned of each provider, and how calls to it go."""
    return ProvidersStatus(providers=[gateway.status(name) for name in gateway.providers])


@router.delete("/internal/providers/{name}/learned")
async def forget(name: str, gateway: OpenGateway) -> ProviderStatus:
    negotiation = gateway.negotiations.get(name)
    if negotiation is None:
        raise NotFound(f"no provider named {name!r}; known: {', '.join(gateway.negotiations) or 'none'}")
    await negotiation.forget()
    return negotiation.status()


@router.post("/internal/providers/{name}/test")
async def probe_provider(name: str, gateway: OpenGateway, max_age_s: float = 0.0) -> ProviderReport:
    """Test a provider by a few calls. max_age_s: a kept report of at most this age will do."""
    if name not in gateway.providers:
        raise NotFound(f"no provider named {name!r}; known: {', '.join(gateway.providers) or 'none'}")
    return await report_on(gateway, name, max_age_s)


@router.post("/internal/cancel")
async def cancel(body: CancelBody, gateway: OpenGateway) -> dict[str, int]:
    return {"cancelled": await gateway.cancel(body.step_id, body.client_id)}


@health.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@health.get("/readyz")
async def readyz(gateway: OpenGateway) -> JSONResponse:
    """503 until every configured provider answers; says which does not and why."""
    states = {name: await _state(client) for name, client in gateway.clients.items()}
    if not states:
        states[DEFAULT] = {"ready": False, "code": "teacher_not_configured", "message": NOT_CONFIGURED}
    ready = all(state["ready"] for state in states.values())
    return JSONResponse({"status": "ready" if ready else "not ready", "providers": states}, 200 if ready else 503)


def choose(providers: Mapping[str, Provider], model: str) -> Provider:
    """By the provider's name, else by its model's name."""
    provider = providers.get(model) or next((p for p in providers.values() if p.model == model), None)
    if provider is not None:
        return provider
    if model == DEFAULT:
        raise UserError(NOT_CONFIGURED, param="model", code="teacher_not_configured")
    known = ", ".join(providers) or "none"
    raise NotFound(f"no provider or model named {model!r}; known: {known}", param="model", code="model_not_found")


async def _state(client: ProviderClient) -> Json:
    try:
        await client.ping()
    except ProviderError as failure:
        return {"ready": False, "code": failure.code, "message": failure.message}
    return {"ready": True}


def _origin(request: Request) -> CallOrigin:
    project, job, step, phase = (unquote(request.headers.get(name, "")) or None for name in ORIGIN_HEADERS)
    example = unquote(request.headers.get(EXAMPLE_HEADER, "")) or None
    return CallOrigin(project or DEFAULT_PROJECT, job, step, phase, example)


async def _call_headers(gateway: Gateway, ticket: Ticket, answer: Answer) -> dict[str, str]:
    """Which call answered, and whether it cost this caller anything; a shared call is recorded for each caller."""
    headers = {CALL_HEADER: answer.body[OWN]["call_id"]}
    if not ticket.first:
        await gateway.cache.note_cached(ticket.call, ticket.caller.origin, answer.body)
        return headers | {CACHE_HEADER: "shared"}
    return headers | ({CACHE_HEADER: "hit"} if answer.cached else {})


def _failed(failure: ProviderError) -> JSONResponse:
    headers = {CALL_HEADER: failure.call_id} if failure.call_id else {}
    if failure.status in (429, 503):
        headers["retry-after"] = str(max(1, round(failure.retry_after or 2)))
    return error_response(failure.body(), failure.status, headers)


def _event_stream(events: AsyncIterator[str], headers: dict[str, str]) -> Stream:
    unbuffered = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return Stream(events, 200, unbuffered | headers, "text/event-stream")


def _event(data: Json) -> str:
    return f"data: {json.dumps(data, separators=(',', ':'), ensure_ascii=False)}\n\n"


async def _events(chunks: Iterable[Json]) -> AsyncIterator[str]:
    for chunk in chunks:
        yield _event(chunk)
    yield "data: [DONE]\n\n"


async def _live(
    ticket: Ticket, chunks: asyncio.Queue[Json | None], chunk: Json | None, include_usage: bool
) -> AsyncIterator[str]:
    """Chunks as the provider sends them, its usage chunk only on request; a late failure becomes an error event."""
    try:
        while chunk is not None:
            if chunk.get("choices") or include_usage:
                yield _event(chunk)
            chunk = await chunks.get()
        try:
            await asyncio.shield(ticket.call.task)
            yield "data: [DONE]\n\n"
        except MeteorError as error:
            yield _event({"error": as_body(error).model_dump()})
    finally:
        ticket.leave()
