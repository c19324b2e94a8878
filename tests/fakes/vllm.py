"""A small engine that speaks vLLM's dialect of the OpenAI protocol, for tests of the chat proxy.

What it does follows from the last message: "think" answers with a rationale, "refuse" is refused in vLLM's error shape,
"fail" breaks off with an error event, "drop" closes the connection in mid-stream, "wait" never answers. Anything else
is echoed.
"""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from tests.fakes.ports import free_port, wait_until


@dataclass
class FakeVllm:
    """The served names, what was asked (body, authorization), and how many requests their callers left."""

    models: set[str]
    url: str = ""
    asked: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    waiting: int = 0
    left: int = 0

    @property
    def last(self) -> dict[str, Any]:
        return self.asked[-1][0]


def _refused(status: int, message: str, kind: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


def _chunk(model: str, delta: dict[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
    return f"data: {json.dumps(value)}\n\n"


async def _chunks(model: str, word: str, usage: bool) -> AsyncIterator[str]:
    yield _chunk(model, {"role": "assistant", "content": ""})
    yield _chunk(model, {"content": "Hel"})
    if word == "fail":
        yield f"data: {json.dumps({'error': {'message': 'out of memory', 'type': 'InternalServerError', 'code': 500}})}\n\n"
        return
    if word == "drop":
        raise ConnectionError("the engine died")  # uvicorn closes the connection without the last chunk
    yield _chunk(model, {"content": "lo é"}, "stop")
    if usage:
        counts = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        last = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
        yield f"data: {json.dumps(last | {'choices': [], 'usage': counts})}\n\n"
    yield "data: [DONE]\n\n"


def vllm_app(state: FakeVllm) -> FastAPI:
    app = FastAPI()

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({})

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request):
        body = await request.json()
        state.asked.append((body, request.headers.get("authorization", "")))
        word = str(body["messages"][-1]["content"])
        if body["model"] not in state.models:
            return _refused(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        if word == "refuse":
            return _refused(400, "max_tokens is too large", "BadRequestError")
        if word == "wait":
            state.waiting += 1
            while (await request.receive())["type"] != "http.disconnect":
                continue
            state.left += 1
            return _refused(499, "left", "ClientLeft")
        if body.get("stream"):
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return StreamingResponse(_chunks(body["model"], word, usage), media_type="text/event-stream")
        text = "It is twice 21.\nAnswer: 42" if word == "think" else word
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }

    return app


@contextmanager
def running_vllm(models: set[str]) -> Iterator[FakeVllm]:
    """The engine on a free loopback port, in a thread of this process."""
    state = FakeVllm(models)
    port = free_port()
    state.url = f"http://127.0.0.1:{port}"
    config = uvicorn.Config(vllm_app(state), host="127.0.0.1", port=port, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, 20, "the fake engine")
        yield state
    finally:
        server.should_exit = True
        thread.join(10)
