"""/v1/chat/completions, /v1/completions and /v1/responses: the door to the engine that knows our models' names."""

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.responses import Response

from services.api.context import ProjectContext
from services.api.deps import Context, Engine, Id, needs
from services.api.engine_client import EngineClient
from services.api.engine_errors import at_our_places
from services.api.features.chat import responses, streams, trials
from services.api.features.chat import service as chat
from services.api.features.chat.fields import CLAMPED_HEADER, IGNORED_HEADER
from services.api.features.chat.keeping import Keeping, kept_chat
from services.api.features.chat.metrics import ChatMetrics
from services.api.features.chat.service import Asked, Body
from services.api.model_router import Target
from services.api.openapi_document import Responses, may_answer
from services.api.responses.event_stream import EVENT, EVENT_STREAM, STREAM_HEADERS
from services.api.router import Router
from shared.contracts.chat import ChatRequest, CompletionRequest, GenerationRequest, ResponsesRequest
from shared.contracts.errors import MeteorError, NotFound
from shared.contracts.keys import Scope
from shared.platform.disconnect import Stream, until_disconnected
from shared.platform.log import get_logger

log = get_logger(__name__)
MODEL_HEADER = "x-meteor-model"  # the version that answered
CLIENT_CLOSED_REQUEST = 499  # no client reads it; it shows in metrics


def _header(description: str) -> Body:
    return {"schema": {"type": "string"}, "description": description}


ANSWERS: Responses = may_answer(404, 504) | {
    200: {
        "description": "What the model says: one object, or with `stream` server-sent events that end with `[DONE]`.",
        "content": {"application/json": {"schema": {"type": "object"}}, EVENT_STREAM: {"schema": EVENT}},
        "headers": {
            MODEL_HEADER: _header("The version that answered."),
            IGNORED_HEADER: _header("Fields of the request that had no effect."),
            CLAMPED_HEADER: _header("Limits that were lowered to what the model's context holds."),
        },
    }
}

router = Router(tags=["chat"], dependencies=[needs(Scope.CHAT)])


class Form(NamedTuple):
    """How one request's answer is told. opening: what stays the same as its conversation grows. whole: the answer, from the
    chat's. events: makes the events of a stream, where they are no chunks of a chat. places: of the chat's messages in `messages`,
    the field of the request. names: the request's names of the chat's fields. kept: the chat is stored
    where that is asked for."""

    opening: Any
    whole: Callable[[Body], Body] = lambda answer: answer
    events: Callable[[str], responses.Events] | None = None
    messages: str = "messages"
    places: list[int | None] | None = None
    names: Mapping[str, str] = MappingProxyType({})
    kept: bool = False


@router.post(chat.CHAT, response_model=None, responses=ANSWERS)
async def create_chat_completion(request: Request, context: Context, engine: Engine, body: ChatRequest) -> Response:
    return await _answer(request, context, engine, body, Form(chat.opening_of(body.sent["messages"]), kept=True))


@router.post(chat.COMPLETIONS, response_model=None, responses=ANSWERS)
async def create_completion(request: Request, context: Context, engine: Engine, body: CompletionRequest) -> Response:
    return await _answer(request, context, engine, body, Form(body.prompt, messages="prompt"))


@router.post("/v1/responses", response_model=None, responses=ANSWERS)
async def create_response(request: Request, context: Context, engine: Engine, body: ResponsesRequest) -> Response:
    asked, places = responses.as_chat(body)
    form = Form(
        opening=chat.opening_of(asked.sent["messages"]),
        whole=lambda answer: responses.whole(body, answer),
        events=lambda model: responses.Events(body, model),
        messages="input",
        places=places,
        names=responses.NAMES,
    )
    return await _answer(request, context, engine, asked, form)


@router.get("/v1/responses/{response_id}", include_in_schema=False)
@router.get("/v1/responses/{response_id}/input_items", include_in_schema=False)
async def stored_response(context: Context, response_id: Id) -> Response:
    raise NotFound(
        f"responses are not stored, so there is no {response_id!r}", param="response_id", code="response_not_found"
    )


async def _answer(
    request: Request, context: ProjectContext, engine: EngineClient, body: GenerationRequest, form: Form
) -> Response:
    chosen = await trials.choose(request, context, body, form.opening)
    target = chosen.target
    made = chat.asked(body, target, context.project, context.bases.template(target.base))
    keeping = kept_chat(request, context, body, form.kept, target, made, chosen.capture)
    metrics = ChatMetrics(context.project, target, chosen.observe)
    if not body.stream:
        with metrics.until_answered():
            whole = await until_disconnected(request, _whole(engine, made, target, form))
        if whole is None:
            metrics.end("left")
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        answer, made = whole
        metrics.end("ok")
        trials.copy(request, context, chosen, made, lambda: chat.first_text(made, answer))
        value = chat.shown(made, answer) | {"model": target.shown}
        value = value if keeping is None else keeping.whole(value)
        shown = json.dumps(form.whole(value), separators=(",", ":"))
        return Response(
            shown, media_type="application/json", headers=_headers(made, target, form)
        )  # ASCII: a text may hold a lone surrogate
    with metrics.until_answered():  # errors before the first chunk still get a status of their own
        begun = await until_disconnected(request, _begun(engine, made, target, form))
    if begun is None:
        metrics.end("left")
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    first, chunks, made = begun
    metrics.first()
    gathered: list[str] | None = [] if chosen.compares else None

    def finished() -> None:
        metrics.end("ok")
        trials.copy(request, context, chosen, made, lambda: chat.streamed_text(made, gathered or []))

    stream = _relayed(first, chunks, made, target, form, metrics, finished, gathered, keeping)
    return Stream(stream, media_type=EVENT_STREAM, headers=STREAM_HEADERS | _headers(made, target, form))


def _headers(made: Asked, target: Target, form: Form) -> dict[str, str]:
    said = made.notes.headers()
    for chats, ours in form.names.items():
        said = {name: value.replace(chats, ours) for name, value in said.items()}
    return said | {MODEL_HEADER: target.header}


async def _whole(engine: EngineClient, made: Asked, target: Target, form: Form) -> tuple[bytes, Asked]:
    """The engine's answer to the request, or to a form of it that the engine takes."""
    while True:
        try:
            return await engine.whole(made.path, made.body, target.served_by), made
        except MeteorError as error:
            made = _otherwise(made, error, form)


async def _begun(
    engine: EngineClient, made: Asked, target: Target, form: Form
) -> tuple[bytes, AsyncGenerator[bytes, None], Asked]:
    """The same of a stream, whose first part has come."""
    while True:
        chunks = engine.parts(made.path, made.body, target.served_by)
        try:
            return await anext(chunks, b""), chunks, made
        except MeteorError as error:
            await chunks.aclose()
            made = _otherwise(made, error, form)
        except BaseException:
            await chunks.aclose()
            raise


def _otherwise(made: Asked, error: MeteorError, form: Form) -> Asked:
    """Raises the error, in the request's own words, where there is no other form."""
    other = chat.adapted(made, error)
    if other is not None:
        return other
    places = made.places
    if form.places is not None:
        places = [None if place is None else form.places[place] for place in places]
    at_our_places(error, places, form.messages)
    error.param = form.names.get(error.param or "", error.param)
    raise error


async def _relayed(
    first: bytes,
    rest: AsyncGenerator[bytes, None],
    made: Asked,
    target: Target,
    form: Form,
    metrics: ChatMetrics,
    finished: Callable[[], None],
    gathered: list[str] | None = None,
    keeping: Keeping | None = None,
) -> AsyncIterator[bytes]:
    """The engine's stream as the client gets it. gathered: gets the pieces of its text."""
    events = form.events(target.shown) if form.events is not None else None
    try:
        async with contextlib.aclosing(rest):  # closes the engine's side when the client disconnects
            rename = streams.renaming(target.engine_name, target.shown)
            lines = streams.shown_lines(_chained(first, rest), rename, metrics.failed)
            if gathered is not None:
                lines = streams.gathered(lines, gathered)
            if events is not None:
                async for part in streams.as_events(lines, chat.Reshaper(made), events):
                    yield part
            else:
                told = streams.reshaped(lines, chat.Reshaper(made)) if made.reshapes else lines
                if keeping is None:
                    async for part in told:
                        yield part
                else:
                    async with contextlib.aclosing(keeping.lines(told)) as kept:
                        async for part in kept:
                            yield part
        finished()
    except MeteorError as error:
        log.warning("stream broke", error=str(error))
        metrics.failed(error)
        yield streams.broken(error, named=events is not None)
    finally:
        metrics.end("left")  # has no effect after another end


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
