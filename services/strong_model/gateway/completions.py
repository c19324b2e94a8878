"""Chat completions as data: the identity of a request, the checks and the price of an answer. No I/O."""

import json
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from services.strong_model.gateway.errors import (
    REFUSED_ROW,
    ProviderError,
    bad_answer,
    blocked_prompt,
    broken_off,
    in_answer,
    not_json,
)
from services.strong_model.gateway.normalise import UNKNOWN, Blocked, Failed, Unreadable, normalised, usage_of
from services.strong_model.gateway.providers import Provider
from shared.contracts.json_types import Json
from shared.contracts.providers import Change
from shared.contracts.steps import canonical, content_hash
from shared.ledger.accounts import Amount
from shared.ledger.store import Cost

OWN = "meteor"  # our own field in an answer
TEMPLATE = 64  # tokens that a chat template adds at most beside the request's own JSON
UNBOUNDED = 32_768  # tokens of an answer to a request that names no limit
REFUSED, REFUSED_S = "refused", 7 * 86_400.0  # a kept refusal and how long it counts: filters change, requests do not
CACHEABLE = ("ok", "cut_off")  # outcomes that an equal request would have again


class Habits(NamedTuple):
    """What is known of a model's answers. whole: it has given whole ones, so a cut one is really too long.

    unopened: its reasoning has no beginning, so the text of a cut answer is reasoning.
    """

    whole: bool = True
    unopened: bool = False


CERTAIN = Habits()


def usable(kept: Json, provider: Provider) -> Json | None:
    """A cached answer or refusal of the provider's, the answer in today's form. None where it no longer counts: a refusal that is
    over, or an answer of the time when unreadable ones were cached as well."""
    if REFUSED in kept:
        return None if is_over(kept) else kept
    try:
        answer = normalised(kept, tuple(provider.finished_by))
    except (Failed, Blocked, Unreadable):
        return None
    broken = any(choice["finish_reason"] == "error" for choice in answer["choices"])
    return answer if outcome(answer) in CACHEABLE and not broken else None


def kept_refusal(failure: ProviderError, provider: Provider) -> Json | None:
    """What is cached of a failed attempt: that the provider refuses this content. It would refuse the same bytes again."""
    if failure.code != REFUSED_ROW:
        return None
    return {REFUSED: failure.message, "at": time.time(), OWN: {"call_id": failure.call_id, "provider": provider.name}}


def raise_if_refused(kept: Json) -> None:
    """Raises ProviderError for a cached refusal."""
    if REFUSED in kept:
        failure = ProviderError(kept[REFUSED], REFUSED_ROW, "filtered", connected=False)
        failure.call_id = kept[OWN]["call_id"]
        raise failure


def is_over(kept: Json) -> bool:
    """Whether it is a cached refusal that no longer counts."""
    return REFUSED in kept and time.time() > kept["at"] + REFUSED_S


class Completion(NamedTuple):
    """A provider's answer. cost: None where the provider did not count its tokens."""

    body: Json
    outcome: str
    cost: Cost | None
    cacheable: bool


def request_hash(body: Json) -> str:
    """Identity of a request: model, messages and every parameter; how it is delivered (streamed or not) is left out."""
    return content_hash({name: value for name, value in body.items() if name not in ("stream", "stream_options")})


class Identity(NamedTuple):
    """key: of this provider's cached answer. former: of answers that were kept before the provider was a part of the key."""

    key: str
    former: str


def identity(provider: Provider, body: Json, example_id: str | None, sample: str | None) -> Identity | None:
    """What the cached answer is found by; None where each answer is another random draw.

    A request that samples (temperature above 0) is repeatable by its seed, else by its example and sample number.
    """
    digest = request_hash(body)
    if body.get("temperature") and body.get("seed") is None:
        if example_id is None and sample is None:
            return None
        digest = content_hash([digest, example_id, sample or "0"])
    return Identity(content_hash([digest, *provider.identity]), digest)


def wants_schema(body: Json) -> bool:
    wanted = body.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") == "json_schema"


def meets_schema(body: Json, answer: Json) -> bool:
    """Whether the answer is a JSON object with the fields that the request's schema requires."""
    wanted = body["response_format"].get("json_schema")
    schema = wanted.get("schema") if isinstance(wanted, dict) else None
    required = schema.get("required") if isinstance(schema, dict) else None
    try:
        reply = json.loads(answer["choices"][0]["message"].get("content") or "")
    except (ValueError, TypeError, RecursionError):
        return False
    return isinstance(reply, dict) and set(required if isinstance(required, list) else ()) <= reply.keys()


def parse(provider: Provider, payload: bytes) -> Json:
    """A readable completion. Raises ProviderError."""
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        raise not_json(provider, payload) from None
    return checked(provider, body)


def checked(provider: Provider, body: Any) -> Json:
    """A completion in one form (normalise.py). Raises ProviderError: an unreadable answer, an error that came as an answer, a
    blocked prompt, or an answer that the provider broke off."""
    try:
        answer = normalised(body, tuple(provider.finished_by))
    except Failed as failed:
        raise in_answer(provider, failed.body) from None
    except Blocked as blocked:
        raise blocked_prompt(provider, str(blocked), cost(provider, {"usage": usage_of(body)})) from None
    except Unreadable as unreadable:
        raise bad_answer(provider, str(unreadable)) from None
    for choice in answer["choices"]:
        if choice["finish_reason"] == "error":
            raise broken_off(provider, str(choice.get("native_finish_reason") or "error"))
    return answer


def outcome(body: Json, asked: int | None = None) -> str:
    """By the first choice: ok; cut_off; thought: cut, because reasoning used the room up; unfinished: for a reason that is not
    known; filtered; empty. asked: the tokens that the caller wanted at most."""
    choice = body["choices"][0]
    reason, message = choice.get("finish_reason"), choice["message"]
    if reason == UNKNOWN:
        return "unfinished"
    if reason == "length":
        return "thought" if reasoned_away(body, asked) else "cut_off"
    if reason == "content_filter":
        return "filtered"
    return "ok" if has_content(message) else "empty"


def has_content(message: Json) -> bool:
    content = message.get("content")
    return bool((isinstance(content, str) and content.strip()) or message.get("refusal") or message.get("tool_calls"))


def reasoned_away(body: Json, asked: int | None) -> bool:
    """Whether an answer that was cut has no text, or less than its caller had room for, as the rest was reasoning."""
    message = body["choices"][0]["message"]
    if not has_content(message):
        return True
    usage = body.get("usage") or {}
    written, thoughts = _count(usage, "completion_tokens"), str(message.get("reasoning_content") or "")
    counted = _count(usage.get("completion_tokens_details"), "reasoning_tokens")
    length = len(thoughts) + len(message.get("content") or "")
    reasoning = counted or (written * len(thoughts) // length if length else 0)
    apart = counted and _count(usage, "total_tokens") - _count(usage, "prompt_tokens") >= written + counted
    visible = written if apart else written - reasoning  # some count reasoning beside the completion's tokens
    return bool(asked and reasoning and len(body["choices"]) == 1 and visible < asked)


def asked_room(body: Json) -> int | None:
    """The tokens of an answer that a request asks for at most; None where it names no limit."""
    return max(_count(body, "max_tokens"), _count(body, "max_completion_tokens")) or None


def cost(provider: Provider, body: Json) -> Cost | None:
    """By the provider's token counts; None without them. Reasoning that is only in the total is output as well."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    inputs, outputs = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    outputs = max(outputs, _count(usage, "total_tokens") - inputs)
    if not inputs and not outputs:
        return None
    cached = min(inputs, _count(usage.get("prompt_tokens_details"), "cached_tokens"))
    return Cost(inputs, outputs, provider.usd(inputs, outputs, cached), cached)


def _count(values: Any, name: str) -> int:
    value = values.get(name) if isinstance(values, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


def most(provider: Provider, body: Json) -> Amount:
    """The most that a request can cost: an input token is at least one byte of UTF-8, and the output is bounded by the
    request's limit for each of its `n` answers and the provider's limit for reasoning."""
    read = len(canonical(body)) + TEMPLATE
    written = ((asked_room(body) or UNBOUNDED) + provider.reasoning_tokens) * max(1, _count(body, "n"))
    return Amount(provider.usd(read, written), read + written)


def completion(
    provider: Provider,
    call_id: str | None,
    body: Json,
    whole: bool = True,
    asked: int | None = None,
    changed: Iterable[Change] = (),
    habits: Habits = CERTAIN,
) -> Completion:
    """A checked answer, marked with its call. whole: all of it could be read, so it may be cached. asked: see `outcome`.

    An answer that ended for an unknown reason is given as one that was cut, which every client knows to be incomplete.
    """
    if habits.unopened:
        for choice in body["choices"]:
            _all_reasoning(choice)
    result = outcome(body, asked)
    for choice in body["choices"]:
        if choice["finish_reason"] == UNKNOWN:
            choice["finish_reason"] = "length"
    changes = [change.model_dump(include={"field", "how", "why"}) for change in changed]
    body[OWN] = {"call_id": call_id, "provider": provider.name} | ({"changed": changes} if changes else {})
    return Completion(
        body, result, cost(provider, body), whole and result in CACHEABLE and (habits.whole or result == "ok")
    )


def _all_reasoning(choice: Json) -> None:
    """The text of an answer that was cut before its reasoning ended is reasoning."""
    message = choice["message"]
    if choice["finish_reason"] == "length" and not message.get("reasoning_content"):
        message |= {"content": "", "reasoning_content": message["content"]}
