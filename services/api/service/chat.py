"""Chat: what is let through to the engine, and how its answers are shown. Pure functions on dictionaries."""

import json
from typing import Any

from services.api.clients import error_code
from services.api.service.models import Target
from shared.contracts.answers import MARKER, SYSTEM, split_answer
from shared.contracts.errors import ErrorBody, MeteorError, UserError

ALLOWED = frozenset(
    {
        "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "stop", "stream",
        "stream_options", "seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs",
        "response_format", "tools", "tool_choice", "logit_bias", "user", "top_k", "min_p", "repetition_penalty",
    }
)  # fmt: skip
SYSTEM_ROLES = ("system", "developer")


def checked(body: dict[str, Any]) -> dict[str, Any]:
    """The request, if every field is on the list and the ones we read have their form. Raises UserError."""
    unknown = next((name for name in body if name not in ALLOWED), None)
    if unknown is not None:
        raise UserError(f"unknown parameter {unknown[:100]!r}", param=unknown[:100], code="unknown_parameter")
    for name in ("model", "messages"):
        if name not in body:
            raise UserError(f"{name} is required", param=name, code="missing_required_parameter")
    model, messages = body["model"], body["messages"]
    if not isinstance(model, str) or not model.isprintable():
        raise UserError("model must be the name of a model", param="model", code="invalid_value")
    if not isinstance(messages, list) or not messages:
        raise UserError("messages must be a list with at least one message", param="messages", code="invalid_value")
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise UserError(
                "a message is an object with role and content", param=f"messages.{place}", code="invalid_value"
            )
    if not isinstance(body.get("stream"), bool | None):
        raise UserError("stream must be true or false", param="stream", code="invalid_value")
    return body


def for_engine(body: dict[str, Any], target: Target) -> dict[str, Any]:
    """The same request under the engine's name for the model, with the system text that training used if it has none."""
    messages = body["messages"]
    if not any(message["role"] in SYSTEM_ROLES for message in messages):
        messages = [{"role": "system", "content": SYSTEM}, *messages]
    return body | {"model": target.engine_name, "messages": messages}


def shown_answer(answer: dict[str, Any], target: Target, structured: bool) -> dict[str, Any]:
    """The engine's answer under the asked name, the rationale apart. structured: a response_format owns the text."""
    for choice in answer.get("choices") or []:
        message = choice.get("message") or {}
        text = message.get("content")
        if not structured and isinstance(text, str) and MARKER in f"\n{text}":
            rationale, message["content"] = split_answer(text)
            if rationale:
                message["reasoning_content"] = rationale
    return answer | {"model": target.shown}


def is_structured(body: dict[str, Any]) -> bool:
    form = body.get("response_format")
    return isinstance(form, dict) and form.get("type") not in (None, "text")


def shown_line(line: str, target: Target) -> str | None:
    """One line of the engine's stream as we pass it on; None for the blank lines between events.

    The text goes out as it comes: whether a rationale precedes the answer is known only when the marker appears, and
    holding the text back until then would be no stream. Ask without `stream` for `reasoning_content`.
    """
    if not line.startswith("data:"):
        return None
    data = line.removeprefix("data:").strip()
    if data == "[DONE]":
        return event_line(data)
    chunk = json.loads(data)
    if "error" in chunk:
        inner = chunk["error"] if isinstance(chunk["error"], dict) else {"message": str(chunk["error"])}
        return failure_line(
            ErrorBody(
                message=str(inner.get("message") or "the engine failed"),
                type="server_error",
                code=error_code(inner.get("code")),
            )
        )
    return event_line(json.dumps(chunk | {"model": target.shown}, ensure_ascii=False, separators=(",", ":")))


def broken_stream(error: MeteorError) -> str:
    """The last line of a stream that broke: the status is long sent, so the error travels as data."""
    return failure_line(error.body())


def failure_line(body: ErrorBody) -> str:
    return event_line(json.dumps({"error": body.model_dump()}))


def event_line(data: str) -> str:
    return f"data: {data}\n\n"
