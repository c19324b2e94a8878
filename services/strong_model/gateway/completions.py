"""Chat completions as data: checked, hashed, put together from a stream and turned into one again. No I/O."""

import json
import time
from collections.abc import Iterator
from typing import Any

from services.strong_model.gateway.errors import bad_answer, broken_stream, not_json
from services.strong_model.settings import Provider
from shared.contracts.steps import canonical, content_hash
from shared.ledger.accounts import Amount
from shared.ledger.store import Cost

TEXTS = ("content", "refusal", "reasoning_content", "reasoning")  # parts of a delta that grow by appending
OWN = "meteor"  # our own field in an answer
TEMPLATE = 64  # tokens that a chat template adds at most beside the request's own JSON
UNBOUNDED = 32_768  # tokens of an answer to a request that names no limit


def request_hash(body: dict[str, Any]) -> str:
    """Identity of a request: model, messages and every parameter; how it is delivered (streamed or not) is left out."""
    return content_hash({name: value for name, value in body.items() if name not in ("stream", "stream_options")})


def identity(body: dict[str, Any], example_id: str | None, sample: str | None) -> str | None:
    """By what an answer is kept and found again; None: by nothing, each answer is another draw.

    A request that samples (temperature above 0) is repeatable by its seed, else by its example and sample number.
    """
    digest = request_hash(body)
    if not body.get("temperature") or body.get("seed") is not None:
        return digest
    if example_id is None and sample is None:
        return None
    return content_hash([digest, example_id, sample or "0"])


def sent_to(provider: Provider, body: dict[str, Any]) -> dict[str, Any]:
    """The request as this provider gets it."""
    body = body | {"model": provider.model}
    if not provider.json_schema and wants_schema(body):
        del body["response_format"]  # its reply is checked by who asked, who then asks once more
    return body


def wants_schema(body: dict[str, Any]) -> bool:
    wanted = body.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") == "json_schema"


def meets_schema(body: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Whether the answer is a JSON object with the fields that the request's schema requires."""
    wanted = body["response_format"].get("json_schema")
    schema = wanted.get("schema") if isinstance(wanted, dict) else None
    required = schema.get("required") if isinstance(schema, dict) else None
    try:
        said = json.loads(answer["choices"][0]["message"].get("content") or "")
    except (ValueError, TypeError, RecursionError):
        return False
    return isinstance(said, dict) and set(required if isinstance(required, list) else ()) <= said.keys()


def parse(provider: Provider, payload: bytes) -> dict[str, Any]:
    """A completion with at least one choice. Raises TeacherFailure `teacher_bad_answer`."""
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        raise not_json(provider, payload) from None
    return checked(provider, body)


def checked(provider: Provider, body: Any) -> dict[str, Any]:
    """A completion with at least one choice. Raises TeacherFailure `teacher_bad_answer`."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        raise bad_answer(provider, "an answer without choices")
    if not all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices):
        raise bad_answer(provider, "a choice without a message")
    return body


def outcome(body: dict[str, Any]) -> str:
    """ok, cut_off, filtered or empty, by the first choice."""
    choice = body["choices"][0]
    reason, message = choice.get("finish_reason"), choice["message"]
    if reason == "length":
        return "cut_off"
    if reason == "content_filter":
        return "filtered"
    said = message.get("content") or message.get("refusal") or message.get("tool_calls")
    return "ok" if said else "empty"


def cost(provider: Provider, body: dict[str, Any]) -> Cost | None:
    """By the provider's count; None when it gave none. Reasoning that it counts apart is output as well."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    read, written = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    written = max(written, _count(usage, "total_tokens") - read)
    if not read and not written:
        return None
    cached = min(read, _count(usage.get("prompt_tokens_details"), "cached_tokens"))
    return Cost(read, written, provider.usd(read, written, cached), cached)


def _count(values: Any, name: str) -> int:
    value = values.get(name) if isinstance(values, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


def most(provider: Provider, body: dict[str, Any]) -> Amount:
    """What one answer can cost at most: a token of the input is at least one byte of UTF-8, and the output is bounded by
    the request's own limit, for each of the `n` answers, and by the provider's for reasoning beside it."""
    read = len(canonical(body)) + TEMPLATE
    named = max(_count(body, "max_tokens"), _count(body, "max_completion_tokens"))
    written = ((named or UNBOUNDED) + provider.reasoning_tokens) * max(1, _count(body, "n"))
    return Amount(provider.usd(read, written), read + written)


class Assembly:
    """A completion put together from its chunks. whole: nothing was met that this class cannot put together."""

    def __init__(self, provider: Provider):
        self.provider = provider
        self.whole = True
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._usage: dict[str, Any] | None = None

    def add(self, data: str) -> dict[str, Any]:
        """One `data:` line; returns it parsed. Raises TeacherFailure for errors sent in mid-stream and for garbage."""
        try:
            chunk = json.loads(data)
        except ValueError:
            raise not_json(self.provider, data.encode()) from None
        if not isinstance(chunk, dict) or "error" in chunk:
            raise broken_stream(self.provider, data)
        self._head = self._head or {name: chunk.get(name) for name in ("id", "created", "model")}
        self._usage = chunk.get("usage") or self._usage
        for part in chunk.get("choices") or []:
            self._add_choice(part)
        return chunk

    def _add_choice(self, part: dict[str, Any]) -> None:
        index = part.get("index", 0)
        choice = self._choices.setdefault(
            index, {"index": index, "message": {"role": "assistant", "content": ""}, "finish_reason": None}
        )
        message = choice["message"]
        for name, value in (part.get("delta") or {}).items():
            if name in TEXTS and isinstance(value, str):
                message[name] = (message.get(name) or "") + value
            elif name != "role" and value:
                self.whole = False
        choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]

    def finish(self) -> dict[str, Any]:
        """The completion. Raises TeacherFailure `teacher_bad_answer` when the stream broke off."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        if not choices or not all(choice["finish_reason"] for choice in choices):
            raise bad_answer(self.provider, "a stream that broke off before its end")
        return {"object": "chat.completion", **self._head, "choices": choices, "usage": self._usage}


def chunks_of(body: dict[str, Any], include_usage: bool) -> Iterator[dict[str, Any]]:
    """A whole completion as the chunks of a stream: texts, reasons to finish, and the usage if it was asked for."""
    head = {
        "id": body.get("id") or "chatcmpl-kept",
        "object": "chat.completion.chunk",
        "created": body.get("created") or int(time.time()),
        "model": body.get("model"),
    }
    for choice in body["choices"]:
        index = choice.get("index", 0)
        yield head | {"choices": [{"index": index, "delta": choice["message"], "finish_reason": None}]}
        yield head | {"choices": [{"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}]}
    if include_usage and body.get("usage"):
        yield head | {"choices": [], "usage": body["usage"]}
