"""/v1/chat/completions, /v1/completions and /v1/responses: a proxy to the engine that knows our models' names."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from services.api.context import ProjectContext
from services.api.deps import Context, Engine, needs
from services.api.engine_client import EngineClient
from services.api.features.chat import service as chat
from services.api.features.chat import streams
from services.api.features.chat.metrics import ChatMetrics
from services.api.features.chat.service import Route
from services.api.model_router import Target
from services.api.openapi_document import Responses, may_answer
from services.api.responses.event_stream import EVENT, EVENT_STREAM, STREAM_HEADERS
from shared.contracts.chat import ChatRequest, CompletionRequest, GenerationRequest, ResponsesRequest
from shared.contracts.errors import MeteorError
from shared.contracts.keys import Scope
from shared.platform.disconnect import until_disconnected
from shared.platform.log import get_logger

log = get_logger(__name__)
MODEL_HEADER = "x-meteor-model"  # the version that answered
CLIENT_CLOSED_REQUEST = 499  # no client reads it; it shows in metrics
ANSWERS: Responses = may_answer(404, 504) | {
    200: {
        "description": "What the engine says: one object, or with `stream` server-sent events that end with `[DONE]`.",
        "content": {"application/json": {"schema": {"type": "object"}}, EVENT_STREAM: {"schema": EVENT}},
        "headers": {MODEL_HEADER: {"schema": {"type": "string"}, "description": "The version that answered."}},
    }
}

router = APIRouter(tags=["chat"], dependencies=[needs(Scope.CHAT)])


@router.post(chat.CHAT.path, response_model=None, responses=ANSWERS)
async def create_chat_completion(request: Request, context: Context, engine: Engine, body: ChatRequest) -> Response:
    return await _answer(request, context, engine, chat.CHAT, body)


@router.post(chat.COMPLETIONS.path, response_model=None, responses=ANSWERS)
async def create_completion(request: Request, context: Context, engine: Engine, body: CompletionRequest) -> Response:
    return await _answer(request, context, engine, chat.COMPLETIONS, body)


@router.post(chat.RESPONSES.path, response_model=None, responses=ANSWERS)
async def create_response(request: Request, context: Context, engine: Engine, body: ResponsesRequest) -> Response:
    return await _answer(request, context, engine, chat.RESPONSES, body)


async def _answer(
    request: Request, context: ProjectContext, engine: EngineClient, route: Route, body: GenerationRequest
) -> Response:
    project, given = context.project, body.sent
    target, shadow = await _targets(request, context, route, body.model, given)
    sent = chat.for_engine(route, given, target.engine_name, project)
    rename = streams.renaming(target.engine_name, target.shown)
    metrics = ChatMetrics(project, target)

    def finished() -> None:
        metrics.end("ok")
        if shadow is not None:
            request.app.state.shadows.send(project, route, sent, shadow)

    if not body.stream:
        with metrics.until_answered():
            answer = await until_disconnected(request, engine.whole(route.path, sent, target.served_by))
        if answer is None:
            metrics.end("left")
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        finished()
        shown = chat.shown(route, answer, sent, rename)
        return Response(shown, media_type="application/json", headers={MODEL_HEADER: target.header})
    chunks = engine.parts(route.path, sent, target.served_by)
    with metrics.until_answered():  # errors before the first chunk still get a status of their own
        first = await until_disconnected(request, anext(chunks, b""))
    if first is None:
        metrics.end("left")
        await chunks.aclose()
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    metrics.first()
    headers = STREAM_HEADERS | {MODEL_HEADER: target.header}
    stream = _relayed(first, chunks, rename, metrics, finished)
    return StreamingResponse(stream, media_type=EVENT_STREAM, headers=headers)


async def _targets(
    request: Request, context: ProjectContext, route: Route, model: str, given: chat.Body
) -> tuple[Target, Target | None]:
    """The model that answers, and the one that gets a copy. Raises NotFound."""
    model_route = await context.model_router.cached(context.project, model)
    if model_route.canary is None:
        return model_route.main, None
    return model_route.choose(chat.conversation(route, given, request.headers.get("x-session-id", "")))


async def _relayed(
    first: bytes,
    rest: AsyncGenerator[bytes, None],
    rename: streams.Rename,
    metrics: ChatMetrics,
    finished: Callable[[], None],
) -> AsyncIterator[bytes]:
    """The engine's stream as the client gets it."""
    try:
        async with contextlib.aclosing(rest):  # closes the engine's side when the client disconnects
            async for lines in streams.shown_lines(_chained(first, rest), rename, metrics.failed):
                yield lines
        finished()
    except MeteorError as error:
        log.warning("stream broke", error=str(error))
        metrics.failed(error)
        yield streams.broken(error)
    finally:
        metrics.end("left")  # has no effect after another end


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
