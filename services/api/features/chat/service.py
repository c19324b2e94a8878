"""Chat: what goes to the engine, and how its whole answers are shown. Pure functions."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from services.api.features.chat.streams import Rename
from shared.contracts.answer_format import MARKER, SYSTEM, split_answer
from shared.contracts.json_types import Json
from shared.jobs.tables import DEFAULT_PROJECT

SYSTEM_ROLES = ("system", "developer")
OURS = ("safety_identifier",)  # fields that end here


class Route(NamedTuple):
    """One of the engine's routes: what is added to a request before it goes there, how its whole answer is shown, and which
    part of the request a conversation begins with and keeps."""

    path: str
    prepared: Callable[[Json], Json]
    shown: Callable[[bytes, Json], bytes]
    opening: Callable[[Json], Any]


def for_engine(route: Route, asked: Json, engine_name: str, project: str) -> Json:
    """The request under the engine's name for the model. What the engine keeps of a prompt serves the same project alone: how
    quickly an answer begins would tell another one what was asked before."""
    sent = route.prepared(asked) | {"model": engine_name}
    if project != DEFAULT_PROJECT:
        sent["cache_salt"] = project
    return {name: value for name, value in sent.items() if name not in OURS}


def shown(route: Route, answer: bytes, asked: Json, rename: Rename) -> bytes:
    """The engine's whole answer under the asked name."""
    return rename(route.shown(answer, asked))


def _chat_prepared(body: Json) -> Json:
    """With the system text that training used, if it has none. An answer that is to be continued gets no new beginning."""
    messages = body["messages"]
    if body.get("continue_final_message"):
        body = body | {"add_generation_prompt": False}
    if any(message["role"] in SYSTEM_ROLES for message in messages):
        return body
    return body | {"messages": [{"role": "system", "content": SYSTEM}, *messages]}


def _responses_prepared(body: Json) -> Json:
    """The same; and nothing is kept in the engine's memory, where one project's answers would lie beside another's."""
    body = body | {"store": False}
    given = body["input"] if isinstance(body["input"], list) else []
    if body.get("instructions") is not None or any(item.get("role") in SYSTEM_ROLES for item in given):
        return body
    return body | {"instructions": SYSTEM}


def _chat_shown(answer: bytes, asked: Json) -> bytes:
    """The rationale apart, where there is one. A response_format owns the text."""
    if MARKER.strip().encode() not in answer or _is_structured(asked):
        return answer
    value = json.loads(answer)
    for choice in value.get("choices") or []:
        message = choice.get("message") or {}
        text = message.get("content")
        if isinstance(text, str) and MARKER in f"\n{text}":
            rationale, message["content"] = split_answer(text)
            if rationale:
                message["reasoning_content"] = rationale
    return json.dumps(value, separators=(",", ":")).encode()  # ASCII: a text may hold half a character


def _is_structured(asked: Json) -> bool:
    form = asked.get("response_format")
    return isinstance(form, dict) and form.get("type") != "text"


def _opening(items: list[Json]) -> list[Json]:
    """Up to the first message of the user: a conversation grows behind it."""
    place = next((place for place, item in enumerate(items) if item.get("role") == "user"), len(items))
    return items[: place + 1]


def _input_opening(body: Json) -> Any:
    given = body["input"]
    return [body.get("instructions"), _opening(given) if isinstance(given, list) else given]


CHAT = Route("/v1/chat/completions", _chat_prepared, _chat_shown, lambda body: _opening(body["messages"]))
COMPLETIONS = Route("/v1/completions", lambda body: body, lambda answer, _: answer, lambda body: body["prompt"])
RESPONSES = Route("/v1/responses", _responses_prepared, lambda answer, _: answer, _input_opening)
