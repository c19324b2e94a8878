"""Providers with a limit of requests, each of which says in its own way when to come again. Real HTTP, on a thread of the test."""

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fakes.on_a_thread import on_a_thread

Refusal = Callable[[float], Response]  # of the seconds until there is room again


def refusal(message: str, headers: Callable[[float], dict[str, str]] = lambda _: {}, **more: Any) -> Refusal:
    """In OpenAI's shape; `{s}` in the message is replaced by the seconds."""

    def response(seconds: float) -> Response:
        error = {"message": message.replace("{s}", f"{seconds:.3f}"), "type": "requests", "code": "rate_limit_exceeded"}
        return JSONResponse({"error": error | more}, 429, headers(seconds))

    return response


def retry_info(seconds: float) -> Response:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds:.2f}s"}
    return JSONResponse([{"error": {"code": 429, "message": "Resource exhausted", "details": [detail]}}], 429)


WAYS: dict[str, Refusal] = {
    "header": refusal("slow down", lambda s: {"retry-after": f"{s:.2f}"}),
    "milliseconds": refusal("slow down", lambda s: {"retry-after-ms": f"{s * 1000:.0f}"}),
    "reset": refusal("slow down", lambda s: {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": f"{s:.2f}s"}),
    "words": refusal("Rate limit reached for requests per min (RPM): Limit 8. Please try again in {s}s."),
    "retry-info": retry_info,
    "silent": refusal("too many requests"),
}  # fmt: skip


@dataclass
class Quota:
    """`room` requests in each window of `window_s` seconds, which begins with its first request."""

    say: Refusal
    room: int = 8
    window_s: float = 1.0
    answered: int = 0
    refused: int = 0
    asked: list[str] = field(default_factory=list)
    _began: float = float("-inf")
    _left: int = 0

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body["messages"][-1]["content"])
        now = time.monotonic()
        if now >= self._began + self.window_s:
            self._began, self._left = now, self.room
        if self._left <= 0:
            self.refused += 1
            return self.say(self._began + self.window_s - now)
        self._left -= 1
        self.answered += 1
        await asyncio.sleep(0.01)
        message = {"role": "assistant", "content": "an answer"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice]})


@contextmanager
def serving(quotas: dict[str, Quota]) -> Generator[dict[str, str]]:
    """Their base URLs by name."""
    routes = [Route(f"/{name}/v1/chat/completions", quota.chat, methods=["POST"]) for name, quota in quotas.items()]
    with on_a_thread(Starlette(routes=routes)) as url:
        yield {name: f"{url}/{name}/v1" for name in quotas}
