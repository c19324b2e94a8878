"""/v1/chat/completions, /v1/completions and /v1/responses: a proxy that knows our models' names."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from services.api.deps import Engine, Project, needs
from services.api.engine_client import EngineClient
from services.api.features.chat import routing, streams
from services.api.features.chat import service as chat
from services.api.features.chat.metrics import ChatWatch
from services.api.features.chat.routing import Target
from services.api.features.chat.service import Route
from services.api.openapi_document import may_answer
from services.api.responses.event_stream import EVENT, EVENT_STREAM, STREAM_HEADERS
from shared.contracts.chat import ChatRequest, CompletionRequest, GenerationRequest, ResponsesRequest
from shared.contracts.errors import MeteorError
from shared.contracts.keys import Scope
from shared.platform.disconnect import until_disconnected
from shared.platform.log import get_logger

log = get_logger(__name__)
MODEL_HEADER = "x-meteor-model"  # the version that answered
CLIENT_GONE = 499  # nobody reads it; it shows in metrics
ANSWERS: dict[int | str, dict[str, Any]] = may_answer(404, 504) | {
    200: {
        "description": "What the engine says: one object, or with `stream` server-sent events that end with `[DONE]`.",
        "content": {"application/json": {"schema": {"type": "object"}}, EVENT_STREAM: {"schema": EVENT}},
        "headers": {MODEL_HEADER: {"schema": {"type": "string"}, "description": "The version that answered."}},
    }
}

router = APIRouter(tags=["chat"], dependencies=[needs(Scope.CHAT)])


@router.post(chat.CHAT.path, response_model=None, responses=ANSWERS)
async def create_chat_completion(request: Request, project: Project, engine: Engine, body: ChatRequest) -> Response:
    return await _answered(request, project, engine, chat.CHAT, body)


@router.post(chat.COMPLETIONS.path, response_model=None, responses=ANSWERS)
async def create_completion(request: Request, project: Project, engine: Engine, body: CompletionRequest) -> Response:
    return await _answered(request, project, engine, chat.COMPLETIONS, body)


@router.post(chat.RESPONSES.path, response_model=None, responses=ANSWERS)
async def create_response(request: Request, project: Project, engine: Engine, body: ResponsesRequest) -> Response:
    return await _answered(request, project, engine, chat.RESPONSES, body)


async def _answered(
    request: Request, project: str, engine: EngineClient, route: Route, body: GenerationRequest
) -> Response:
    given = body.sent
    target, copied = await _chosen(request, project, route, body.model, given)
    sent = chat.for_engine(route, given, target.engine_name, project)
    rename = streams.renaming(target.engine_name, target.shown)
    watch = ChatWatch(project, target)

    def answered() -> None:
        watch.end("ok")
        if copied is not None:
            request.app.state.shadows.send(project, route, sent, copied)

    if not body.stream:
        with watch.until_answered():
            answer = await until_disconnected(request, engine.whole(route.path, sent, target.served_by))
        if answer is None:
            watch.end("left")
            return Response(status_code=CLIENT_GONE)
        answered()
        shown = chat.shown(route, answer, sent, rename)
        return Response(shown, media_type="application/json", headers={MODEL_HEADER: target.header})
    parts = engine.parts(route.path, sent, target.served_by)
    with watch.until_answered():  # errors before the first part still get their own status
        first = await until_disconnected(request, anext(parts, b""))
    if first is None:
        watch.end("left")
        await parts.aclose()
        return Response(status_code=CLIENT_GONE)
    watch.first()
    headers = STREAM_HEADERS | {MODEL_HEADER: target.header}
    stream = _passed_on(_after(first, parts), parts, rename, watch, answered)
    return StreamingResponse(stream, media_type=EVENT_STREAM, headers=headers)


async def _chosen(
    request: Request, project: str, route: Route, model: str, given: dict[str, Any]
) -> tuple[Target, Target | None]:
    """Who answers, and who gets a copy. Raises NotFound."""
    ways = await request.app.state.signpost.ways(project, model)
    if ways.tried is None:
        return ways.main, None
    return ways.chosen(routing.conversation(route, given, request.headers.get("x-session-id", "")))


async def _passed_on(
    parts: AsyncIterator[bytes],
    source: AsyncGenerator[bytes, None],
    rename: streams.Rename,
    watch: ChatWatch,
    answered: Callable[[], None],
) -> AsyncIterator[bytes]:
    try:
        async with contextlib.aclosing(source):  # closes the engine's side when the client leaves
            async for lines in streams.shown_lines(parts, rename, watch.failed):
                yield lines
        answered()
    except MeteorError as error:
        log.warning("stream broke", error=str(error))
        watch.failed(error)
        yield streams.broken(error)
    finally:
        watch.end("left")  # not heard where it ended otherwise


async def _after(first: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in parts:
        yield part
