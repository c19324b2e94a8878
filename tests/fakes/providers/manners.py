"""The parts that a simulated provider is put together from: checks that refuse a request, and forms of an answer."""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse, Response

from tests.fakes.providers.speech import texts

Body = dict[str, Any]
FLAGGED, LONG = "FLAGGED", "FAR TOO LONG"  # words of a prompt that is refused for its content, or for its length


class Asked(NamedTuple):
    """One request as it arrived."""

    body: Body
    headers: Headers
    query: QueryParams

    def given(self, name: str) -> bool:
        return self.body.get(name) is not None

    def says(self, word: str) -> bool:
        return word in texts(self.body["messages"])

    @property
    def room(self) -> int:
        """Tokens that the answer may have, reasoning included."""
        return self.body.get("max_completion_tokens") or self.body.get("max_tokens") or 100_000

    @property
    def format(self) -> str | None:
        return (self.body.get("response_format") or {}).get("type")


Check = Callable[[Asked], Response | None]
Shape = Callable[[Body, Asked], Body]  # changes a finished completion


def error(status: int, message: str, *, code: Any = None, param: str | None = None, **more: Any) -> Response:
    """OpenAI's shape."""
    inside = {"message": message, "type": "invalid_request_error", "param": param, "code": code} | more
    return JSONResponse({"error": inside}, status)


def raw(status: int, content: Any) -> Response:
    return JSONResponse(content, status)


def text(status: int, words: str, kind: str = "text/plain") -> Response:
    return Response(words, status, media_type=kind)


def when(condition: Callable[[Asked], bool], response: Callable[[Asked], Response]) -> Check:
    return lambda asked: response(asked) if condition(asked) else None


def given(*names: str) -> Callable[[Asked], bool]:
    return lambda asked: any(asked.given(name) for name in names)


def first_of(asked: Asked, *names: str) -> str:
    return next(name for name in names if asked.given(name))


def says(word: str) -> Callable[[Asked], bool]:
    return lambda asked: asked.says(word)


def has_role(role: str) -> Callable[[Asked], bool]:
    return lambda asked: any(message["role"] == role for message in asked.body["messages"])


def empty_assistant(asked: Asked) -> bool:
    return any(turn["role"] == "assistant" and not turn.get("content") for turn in asked.body["messages"])


def roles_repeat(asked: Asked) -> bool:
    roles = [turn["role"] for turn in asked.body["messages"] if turn["role"] != "system"]
    return any(one == other for one, other in itertools.pairwise(roles))


def is_set(name: str, allowed: float) -> Callable[[Asked], bool]:
    """A number was sent, and another than the one that is allowed."""
    return lambda asked: asked.given(name) and asked.body[name] != allowed


@dataclass(frozen=True)
class Thinking:
    """Reasoning before the answer. tokens: what it needs; they count inside the limit of the request.

    into: the message's field, "content" for text between `opener` and `closer`, or None where it is not shown.
    counted: usage names them.
    """

    tokens: int = 40
    into: str | None = "reasoning_content"
    opener: str = "<think>"
    closer: str = "</think>"
    counted: bool = True


@dataclass(frozen=True)
class Manners:
    """How one provider behaves.

    checks: in their order; the first that objects answers. shape: what becomes of a whole completion. streams: whether it
    can stream; usage_streamed: whether a stream ends with usage. pulse: what it sends while it computes, every 0.1 s, for
    quiet_s seconds. path: of its chat route. key_header: where it wants the key.
    """

    checks: tuple[Check, ...] = ()
    thinking: Thinking | None = None
    shape: Shape = lambda completion, asked: completion
    finish: dict[str, Any] = field(default_factory=dict)
    usage_streamed: bool = True
    pulse: str = ""
    quiet_s: float = 0.0
    path: str = "/v1/chat/completions"
    key_header: str = "authorization"


def completion(asked: Asked, said: str, manners: Manners) -> Body:
    """A whole answer. One word is one token; a limit cuts reasoning first, then the answer."""
    words, thinking = re.findall(r"\S+\s*", said), manners.thinking
    needed = thinking.tokens if thinking else 0
    thought = min(needed, asked.room)
    kept = words[: asked.room - thought]
    cut = thought < needed or len(kept) < len(words)
    message: Body = {"role": "assistant", "content": "".join(kept)}
    if thinking is not None:
        message = _with_thoughts(message, thinking, thought)
    prompt, written = len(texts(asked.body["messages"]).split()), thought + len(kept)
    usage: Body = {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
    if thinking is not None and thinking.counted:
        usage["completion_tokens_details"] = {"reasoning_tokens": thought}
    reason = "length" if cut else "stop"
    choice = {"index": 0, "message": message, "finish_reason": manners.finish.get(reason, reason)}
    head = {"id": "chatcmpl-simulated", "object": "chat.completion", "created": 1_700_000_000}
    return manners.shape(head | {"model": asked.body.get("model"), "choices": [choice], "usage": usage}, asked)


def _with_thoughts(message: Body, thinking: Thinking, thought: int) -> Body:
    thoughts = "hmm " * thought
    if thinking.into is None:
        return message
    if thinking.into != "content":
        return message | {thinking.into: thoughts}
    closer = thinking.closer if thought == thinking.tokens else ""  # cut reasoning is never closed
    return message | {"content": f"{thinking.opener}{thoughts}{closer}{message['content']}"}
