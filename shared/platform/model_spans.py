"""Spans of calls to models, by OpenTelemetry's conventions for generative AI where OTEL_SEMCONV_STABILITY_OPT_IN asks for them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from shared.contracts.json_types import Json
from shared.platform import tracing

LONGEST = 20_000  # characters of an attribute
PARAMETERS = {
    "gen_ai__request__max_tokens": ("max_tokens", "max_completion_tokens"),
    "gen_ai__request__temperature": ("temperature",),
    "gen_ai__request__top_p": ("top_p",),
    "gen_ai__request__seed": ("seed",),
    "gen_ai__request__choice__count": ("n",),
}


def chat_span(provider: str, model: str, url: str, body: Mapping[str, Any], parent: Any = None) -> Any:
    """The span of one chat completion. provider: its name in the settings, or the engine's."""
    if not tracing.is_on():
        return tracing.span("")
    address = urlsplit(url)
    attributes: dict[str, Any] = {"meteor__provider": provider, "server__address": address.hostname}
    attributes["server__port"] = address.port
    if tracing.shows_models():
        attributes |= {
            "gen_ai__operation__name": "chat",
            "gen_ai__provider__name": provider,
            "gen_ai__request__model": model,
        }
        for name, fields in PARAMETERS.items():
            attributes[name] = next((body[field] for field in fields if body.get(field) is not None), None)
        if tracing.trace_settings().content:
            attributes["gen_ai__input__messages"] = _messages(body.get("messages") or ())
    return tracing.span(f"chat {model}", "client", parent, **attributes)


def answered(span: tracing.Span, answer: Json) -> None:
    """What the completion says of itself."""
    if not tracing.is_on() or not tracing.shows_models():
        return
    usage, choices = answer.get("usage") or {}, answer.get("choices") or []
    span.set(
        gen_ai__response__id=_text(answer.get("id")),
        gen_ai__response__model=_text(answer.get("model")),
        gen_ai__response__finish_reasons=[str(choice.get("finish_reason")) for choice in choices],
        gen_ai__usage__input_tokens=usage.get("prompt_tokens"),
        gen_ai__usage__output_tokens=usage.get("completion_tokens"),
    )
    if tracing.trace_settings().content:
        span.set(gen_ai__output__messages=_messages([choice.get("message") or {} for choice in choices]))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _messages(messages: Sequence[Mapping[str, Any]]) -> str:
    """As the conventions want them: a role, and parts. Not longer than LONGEST."""
    made = [
        {"role": message.get("role"), "parts": [{"type": "text", "content": message.get("content")}]}
        for message in messages
    ]
    return json.dumps(made, ensure_ascii=False, default=str)[:LONGEST]
