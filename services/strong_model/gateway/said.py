"""What a provider said of its failure: one reader for every shape of an error body. No I/O.

Shapes met: OpenAI's `{"error": {...}}`, the same in a list, `detail` and `loc` of FastAPI, `metadata.raw` with another
error as text, `message` at the top, JSON in a string, plain text, HTML.
"""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LONGEST = 2_000  # characters of its words that are looked at
DEPTH = 8
INSIDE = (  # keys below which its words stand, the plainest first
    "message",
    "Message",
    "msg",
    "error",
    "errors",
    "detail",
    "error_message",
    "error_msg",
    "error_description",
    "base_resp",
    "status_msg",
    "fault",
    "faultstring",
    "err",
    "title",
    "reasons",
    "description",
    "metadata",
    "raw",
    "details",
    "fieldViolations",
    "issues",
    "params",
    "innererror",
    "failed_generation",
)
UNSAID = frozenset({"failed_generation"})  # read for codes only: the model's text, not the provider's words
CODES = ("code", "type", "status", "reason", "reasons", "finish_reason", "blockReason", "block_reason", "status_code", "error_code",
         "__type", "error_type")  # fmt: skip
FIELDS = ("param", "field", "parameter", "additionalProperty", "unevaluatedProperty")
_XML = re.compile(r"<(?:message|error|detail|description)>\s*([^<]+?)\s*</", re.IGNORECASE)
_TITLE = re.compile(r"<title>\s*(.*?)\s*</title>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Said:
    """message: its words, at most LONGEST characters. codes: its codes and types, in lower case. fields: the request's fields
    that it names, as it writes them ("temperature", "messages[0].role"). status: the HTTP status that the body itself gives."""

    message: str
    codes: frozenset[str] = frozenset()
    fields: tuple[str, ...] = ()
    status: int | None = None


def read(payload: bytes | str) -> Said:
    text = payload.decode(errors="replace") if isinstance(payload, bytes) else payload
    return of(parsed(text)) if text.strip() else Said("no message")


def parsed(text: str) -> Any:
    """JSON as its value, anything else as the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def of(body: Any) -> Said:
    """body: parsed JSON, or a text."""
    parts = list(_walk(body, DEPTH))
    words: list[str] = []
    for kind, value in parts:
        if kind == "word" and value and not any(value in earlier for earlier in words):
            words = [earlier for earlier in words if earlier not in value] + [value]
    codes = frozenset(str(value).lower() for kind, value in parts if kind == "code")
    fields = tuple(dict.fromkeys(str(value) for kind, value in parts if kind == "field"))
    statuses = [int(code) for code in codes if code.isdecimal() and 400 <= int(code) < 600]
    message = "; ".join(words) or ", ".join(sorted(codes)) or "no message"
    return Said(message[:LONGEST], codes, fields, min(statuses, default=None))


def _walk(value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """(kind, value) of every word, code and field below it, outermost first."""
    if depth == 0:
        return
    if isinstance(value, str):
        yield from _text(value, depth)
    elif isinstance(value, list):
        for item in value[:20]:
            yield from _walk(item, depth - 1)
    elif isinstance(value, dict):
        yield from _object(value, depth)


def _object(value: dict[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
    location = value.get("loc")
    where = [part for part in location if isinstance(part, str | int)] if isinstance(location, list) else []
    names = [part for part in where if isinstance(part, str) and part != "body"]
    if names:
        yield "field", ".".join(names)
    for name in ("path", "keys"):
        listed = value[name] if isinstance(value.get(name), list) else []
        yield from (("field", item) for item in listed if isinstance(item, str))
    for name in CODES:
        items = value[name] if isinstance(value.get(name), list) else [value.get(name)]
        yield from (("code", item) for item in items if isinstance(item, str | int) and not isinstance(item, bool))
    for name in FIELDS:
        if isinstance(value.get(name), str) and value[name]:
            yield "field", value[name]
    for name in INSIDE:
        for kind, item in _walk(value.get(name), depth - 1):
            if kind == "word" and name in UNSAID:
                continue
            yield kind, f"{'.'.join(names)}: {item}" if kind == "word" and names and name == "msg" else item


def _text(value: str, depth: int) -> Iterator[tuple[str, Any]]:
    stripped = value.strip()
    if stripped[:1] in ("{", "["):
        inner = parsed(stripped)
        if not isinstance(inner, str):
            yield from _walk(inner, depth - 1)
            return
    if stripped[:1] == "<" and re.match(
        r"<(?:!doctype|html|head|body|\?xml|error|errorresponse)", stripped, re.IGNORECASE
    ):
        title = _TITLE.search(stripped)
        if title is None and (told := _XML.findall(stripped)):
            yield from (("word", html.unescape(words)) for words in told)
            return
        yield "word", "an HTML page" + (f" ({html.unescape(title.group(1))})" if title else "")
        return
    yield "word", " ".join(stripped.split())
