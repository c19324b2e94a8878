"""The engine's refusals as errors of this API, which name our fields and settings. vLLM's own texts are never passed on unread."""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from shared.contracts.errors import MeteorError, NotFound, UserError

CONTEXT_TOO_SHORT = "max_tokens_too_large"
NO_TOOL_PARSER = "no_tool_parser"
TEMPLATE_REFUSED = "template_refused"
LONGEST_MESSAGE = 300
HASH = re.compile(r"\b[0-9a-f]{64}\b")
SUFFIX = re.compile(r"\s*\((?:parameter|value)=.*\)\s*$", re.DOTALL)
PLACE = re.compile(r"\bmessages(?:\.|\[)(\d+)\]?")
FLAG = re.compile(r"--[a-z][a-z-]+")
SETTINGS = {  # the engine's flags, as this system's settings
    "--max-model-len": "METEOR_ENGINE_MAX_MODEL_LEN",
    "--max-num-seqs": "METEOR_ENGINE_MAX_NUM_SEQS",
    "--tool-call-parser": "METEOR_ENGINE_TOOL_CALL_PARSER",
    "--enable-auto-tool-choice": "METEOR_ENGINE_TOOL_CALL_PARSER",
    "--enable-lora": "METEOR_ENGINE_LORA",
    "--max-lora-rank": "METEOR_ENGINE_MAX_LORA_RANK",
}


class Refusal(NamedTuple):
    """pattern: of the engine's message. message: ours, with the pattern's groups in {0}, {1}, ..."""

    pattern: re.Pattern[str]
    code: str
    message: str
    param: str | None = None


def _refusal(pattern: str, code: str, message: str, param: str | None = None) -> Refusal:
    return Refusal(re.compile(pattern, re.IGNORECASE | re.DOTALL), code, message, param)


# client libraries recognise a too long request by OpenAI's words
CONTEXT = "This model's maximum context length is {0} tokens. However, the request has "
LONGER = "METEOR_ENGINE_MAX_MODEL_LEN makes room for more"
REFUSALS = (
    _refusal(
        r"maximum context length is (\d+) tokens.*prompt contains (at least )?(\d+) input tokens",
        "context_length_exceeded",
        CONTEXT + "{1}{2} tokens; shorten it. " + LONGER,
        "messages",
    ),
    _refusal(
        r"maximum context length is (\d+) tokens.*prompt contains (\d+) characters",
        "context_length_exceeded",
        CONTEXT + "{1} characters, which are more; shorten it. " + LONGER,
        "messages",
    ),
    _refusal(
        r"(?:input|prompt).{0,40}\(?.*?(?:exceeds|longer than).{0,60}(?:context|model) length",
        "context_length_exceeded",
        "The request exceeds the model's maximum context length; shorten it. " + LONGER,
        "messages",
    ),
    _refusal(
        r"max(?:_completion|_output)?_tokens.{0,40}(?:cannot be greater than|too large|exceed)",
        CONTEXT_TOO_SHORT,
        "max_tokens is more than the model's context holds",
        "max_tokens",
    ),
    _refusal(
        r"tool choice requires|tool_choice=.* requires|tool-call-parser",
        NO_TOOL_PARSER,
        "the engine cannot tell this model's calls from its text: METEOR_ENGINE_TOOL_CALL_PARSER names the parser; "
        "tool_choice required works without",
        "tool_choice",
    ),
    _refusal(
        r"chat.?template|template ?error|jinja|roles? must alternate|system role|only supports single tool|tool call ids?",
        TEMPLATE_REFUSED,
        "the model's chat template does not take this conversation: {words}",
        "messages",
    ),
    _refusal(
        r"(?:grammar|json.?schema|schema|xgrammar).{0,200}(?:unsupported|not supported|invalid|fail|error|compile)"
        r"|(?:unsupported|not supported|invalid|failed).{0,80}(?:grammar|schema)",
        "invalid_schema",
        "the engine cannot hold answers to this schema: {words}",
        "response_format",
    ),
    _refusal(r"\bregex\b", "invalid_value", "the engine cannot read this expression: {words}", "structured_outputs.regex"),
)  # fmt: skip


def as_ours(status: int, inner: dict[str, Any]) -> UserError:
    """inner: the object `error` of the engine's answer."""
    said = nameless(inner.get("message") or f"the engine answered with status {status}")
    given = inner.get("param")
    where = given.removeprefix("body.") if isinstance(given, str) and given != "body" else None
    for refusal in REFUSALS:
        match = refusal.pattern.search(said)
        if match:
            groups = [group or "" for group in match.groups()]
            words = refusal.message.format(*groups, words=plain_words(said))
            return UserError(words, param=refusal.param or where, code=refusal.code, status=status)
    if "validation error" in said:  # pydantic's, many lines of the engine's inside
        field = where or "a field"
        return UserError(
            f"{field} has a form that the engine does not take", param=where, code="invalid_value", status=status
        )
    return UserError(plain_words(said), param=where, code=error_code(inner.get("code")), status=status)


def plain_words(said: str) -> str:
    """The first line without the engine's own ornaments, its flags as our settings."""
    line = next((line for line in SUFFIX.sub("", said).splitlines() if line.strip()), "it says no more")
    line = FLAG.sub(lambda flag: SETTINGS.get(flag[0], "a setting of the engine"), line.strip())
    line = re.sub(r"\bvLLM\b", "the engine", line)
    return line if len(line) <= LONGEST_MESSAGE else line[:LONGEST_MESSAGE] + "..."


def at_our_places(error: MeteorError, places: Sequence[int | None], field: str = "messages") -> MeteorError:
    """The error with the places of the request instead of the engine's, whose list of messages is another. field: what the
    request calls its messages."""

    def ours(match: re.Match[str]) -> str:
        place = places[int(match[1])] if int(match[1]) < len(places) else None
        return field if place is None else f"{field}.{place}"

    error.message = PLACE.sub(ours, error.message)
    if error.param is not None:
        error.param = PLACE.sub(ours, error.param)
        error.param = field if error.param == "messages" else error.param
    return error


def nameless(message: object) -> str:
    """The engine's message without the content hash of the model, which is internal."""
    return HASH.sub("the model", str(message))


def error_code(code: Any) -> str:
    """A string, as OpenAI has it; vLLM sends the HTTP status."""
    text = str(code or "")
    if not text.isdecimal():
        return text or "engine_error"
    return "engine_error" if int(text) >= 500 else "invalid_request"


def inner_of(content: bytes) -> dict[str, Any]:
    """The object `error` of an answer, or the answer itself; empty where it is no object."""
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    inner = value.get("error", value) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def missing_route(route: str) -> NotFound:
    return NotFound(f"this engine has no {route}", code="unsupported_route")
