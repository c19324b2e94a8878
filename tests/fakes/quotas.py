"""Providers with a limit of requests, each of which says in its own way when to come again. Real HTTP, on a thread of the test."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fakes.ports import free_port

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
def serving(quotas: dict[str, Quota]) -> Iterator[dict[str, str]]:
    """Their base URLs by name."""
    app = Starlette(
        routes=[Route(f"/{name}/v1/chat/completions", q.chat, methods=["POST"]) for name, q in quotas.items()]
    )
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield {name: f"http://127.0.0.1:{port}/{name}/v1" for name in quotas}
    finally:
        server.should_exit = True
        thread.join()
