"""Chat: the request as the engine gets it, and its whole answer as the client gets it. Pure functions."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from services.api.features.chat.streams import Rename
from shared.contracts.answer_format import MARKER, SYSTEM, split_answer
from shared.contracts.json_types import Json
from shared.jobs.tables import DEFAULT_PROJECT

SYSTEM_ROLES = ("system", "developer")
NOT_SENT = ("safety_identifier",)  # fields that the engine does not get

Body = Json  # a request in OpenAI's JSON, whose fields pass through


class Route(NamedTuple):
    """One of the engine's routes. prepared: the request with what we add to it. shown: the whole answer as the client gets it.
    opening: the part of the request that stays the same as a conversation grows."""

    path: str
    prepared: Callable[[Body], Body]
    shown: Callable[[bytes, Body], bytes]
    opening: Callable[[Body], Any]


def for_engine(route: Route, given: Body, engine_name: str, project: str) -> Body:
    """The request under the engine's name for the model. The engine's prompt cache is separate for each project: how quickly an
    answer begins would reveal what another project asked before."""
    sent = route.prepared(given) | {"model": engine_name}
    if project != DEFAULT_PROJECT:
        sent["cache_salt"] = project
    return {name: value for name, value in sent.items() if name not in NOT_SENT}


def shown(route: Route, answer: bytes, sent: Body, rename: Rename) -> bytes:
    """The engine's whole answer under the requested name."""
    return rename(route.shown(answer, sent))


def conversation(route: Route, given: Body, session: str) -> str:
    """What keeps a conversation with one version: its user, the header x-session-id, `safety_identifier`, or its opening."""
    identity = given.get("user") or session or given.get("safety_identifier")
    return identity or json.dumps(route.opening(given), sort_keys=True)


def _chat_prepared(body: Body) -> Body:
    """With the system prompt of the training, if it has none. An answer that is to be continued gets no generation prompt."""
    messages = body["messages"]
    if body.get("continue_final_message"):
        body = body | {"add_generation_prompt": False}
    if any(message["role"] in SYSTEM_ROLES for message in messages):
        return body
    return body | {"messages": [{"role": "system", "content": SYSTEM}, *messages]}


def _responses_prepared(body: Body) -> Body:
    """The same; and the engine stores no responses, because its memory is shared between projects."""
    body = body | {"store": False}
    given = body["input"] if isinstance(body["input"], list) else []
    if body.get("instructions") is not None or any(item.get("role") in SYSTEM_ROLES for item in given):
        return body
    return body | {"instructions": SYSTEM}


def _chat_shown(answer: bytes, sent: Body) -> bytes:
    """With the rationale in a field of its own, if there is one. With a response_format the text stays as it is."""
    if MARKER.strip().encode() not in answer or _is_structured(sent):
        return answer
    value = json.loads(answer)
    for choice in value.get("choices") or []:
        message = choice.get("message") or {}
        text = message.get("content")
        if isinstance(text, str) and MARKER in f"\n{text}":
            rationale, message["content"] = split_answer(text)
            if rationale:
                message["reasoning_content"] = rationale
    return json.dumps(value, separators=(",", ":")).encode()  # ASCII, since a text may hold a lone surrogate


def _is_structured(sent: Body) -> bool:
    response_format = sent.get("response_format")
    return isinstance(response_format, dict) and response_format.get("type") != "text"


def _opening(items: list[Body]) -> list[Body]:
    """Up to the first message of the user: a conversation grows after it."""
    place = next((place for place, item in enumerate(items) if item.get("role") == "user"), len(items))
    return items[: place + 1]


def _input_opening(body: Body) -> Any:
    given = body["input"]
    return [body.get("instructions"), _opening(given) if isinstance(given, list) else given]


CHAT = Route("/v1/chat/completions", _chat_prepared, _chat_shown, lambda body: _opening(body["messages"]))
COMPLETIONS = Route("/v1/completions", lambda body: body, lambda answer, _: answer, lambda body: body["prompt"])
RESPONSES = Route("/v1/responses", _responses_prepared, lambda answer, _: answer, _input_opening)
