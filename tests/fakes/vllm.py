"""A small engine that speaks vLLM's dialect of the OpenAI protocol, for tests of the chat proxy.

What it does follows from the last message (or the prompt, or the input): "think" answers with a rationale, "refuse" is refused
in vLLM's error shape, "fail" breaks off with an error event, "drop" closes the connection in mid-stream, "wait" never answers,
"trickle" begins a stream that never ends. Anything else is echoed; where tools are given the first one is called instead.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from tests.fakes.ports import free_port, wait_until

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@dataclass
class FakeVllm:
    """The served names, the routes there are, what was asked (body, authorization), how many requests their callers left, and
    which models keep their askers waiting (held: so many of them)."""

    models: set[str]
    routes: set[str] = field(default_factory=lambda: {"/v1/chat/completions", "/v1/completions", "/v1/responses"})
    url: str = ""
    asked: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    takes_priority: bool = True
    slow: set[str] = field(default_factory=set)
    held: int = 0
    waiting: int = 0
    left: int = 0

    @property
    def last(self) -> dict[str, Any]:
        return self.asked[-1][0]


def _refused(status: int, message: str, kind: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


def _event(value: dict[str, Any], name: str = "") -> str:
    """Compact, as vLLM writes it."""
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(value, separators=(',', ':'))}\n\n"


def _head(model: str, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": model}


def _chunk(model: str, delta: dict[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _event(_head(model, "chat.completion.chunk") | {"choices": [choice]})


async def _chunks(model: str, word: str, usage: bool) -> AsyncIterator[str]:
    yield _chunk(model, {"role": "assistant", "content": ""})
    yield _chunk(model, {"content": "Hel"})
    if word == "fail":
        yield _event({"error": {"message": f"{model} is out of memory", "type": "InternalServerError", "code": 500}})
        return
    if word == "drop":
        raise ConnectionError("the engine died")  # uvicorn closes the connection without the last chunk
    yield _chunk(model, {"content": "lo é"}, "stop")
    if usage:
        yield _event(_head(model, "chat.completion.chunk") | {"choices": [], "usage": USAGE})
    yield "data: [DONE]\n\n"


async def _trickle(model: str, state: FakeVllm) -> AsyncIterator[str]:
    """Begins, and then nothing comes for as long as the caller stays."""
    state.waiting += 1
    try:
        yield _chunk(model, {"content": "Hel"})
        await asyncio.sleep(600)
    finally:
        state.left += 1


async def _texts(model: str, word: str) -> AsyncIterator[str]:
    for text, finish in ((word[:2], None), (word[2:], "stop")):
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
        yield _event(_head(model, "text_completion") | {"choices": [choice]})
    yield "data: [DONE]\n\n"


def _choice(body: dict[str, Any], word: str) -> dict[str, Any]:
    """A call of the first tool, where there is one, else a text; with the log-probability of its one token, if that is wanted."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "It is twice 21.\nAnswer: 42" if word == "think" else word,
    }
    if body.get("tools"):
        function = {"name": body["tools"][0]["function"]["name"], "arguments": "{}"}
        message |= {"content": None, "tool_calls": [{"id": "call-1", "type": "function", "function": function}]}
    entry = {"token": word, "logprob": -0.25, "bytes": list(word.encode()), "top_logprobs": []}
    return {
        "index": 0,
        "message": message,
        "logprobs": {"content": [entry]} if body.get("logprobs") else None,
        "finish_reason": "tool_calls" if body.get("tools") else "stop",
    }


def _response(model: str, text: str | None, body: dict[str, Any]) -> dict[str, Any]:
    """The Responses API's object; without a text one that has just begun."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": model,
        "status": "in_progress" if text is None else "completed",
        "error": None,
        "output": [] if text is None else [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": body.get("tools", []),
    }


async def _response_events(model: str, word: str, body: dict[str, Any]) -> AsyncIterator[str]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response(model, None, body)},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", "part": part} | place,
        *(
            {"type": "response.output_text.delta", "delta": text, "logprobs": []} | place
            for text in (word[:2], word[2:])
        ),
        {"type": "response.completed", "response": _response(model, word, body)},
    ]
    for number, event in enumerate(events):
        yield _event(event | {"sequence_number": number}, event["type"])


async def _plain(body: dict[str, Any], word: str) -> Any:
    """/v1/completions"""
    if body.get("stream"):
        return StreamingResponse(_texts(body["model"], word), media_type="text/event-stream")
    choice = {"index": 0, "text": word, "logprobs": None, "finish_reason": "stop"}
    return _head(body["model"], "text_completion") | {"choices": [choice], "usage": USAGE}


async def _responded(body: dict[str, Any], word: str) -> Any:
    """/v1/responses"""
    if body.get("stream"):
        return StreamingResponse(_response_events(body["model"], word, body), media_type="text/event-stream")
    return _response(body["model"], word, body)


def _last_word(body: dict[str, Any]) -> str:
    given = body.get("messages", body.get("input", body.get("prompt")))
    return str(given[-1]["content"] if isinstance(given, list) else given)


def vllm_app(state: FakeVllm) -> FastAPI:
    app = FastAPI()

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({})

    async def asked(request: Request, answer: Callable[[dict[str, Any], str], Awaitable[Any]]) -> Any:
        if request.url.path not in state.routes:
            return JSONResponse({"detail": "Not Found"}, 404)
        body = await request.json()
        state.asked.append((body, request.headers.get("authorization", "")))
        word = _last_word(body)
        if body["model"] not in state.models:
            return _refused(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        if "priority" in body and not state.takes_priority:
            return _refused(400, "Got priority 10 but priority scheduling is not enabled.", "BadRequestError")
        if word == "refuse":
            return _refused(400, "max_tokens is too large", "BadRequestError")
        if word == "wait":
            state.waiting += 1
            while (await request.receive())["type"] != "http.disconnect":
                continue
            state.left += 1
            return _refused(499, "left", "ClientLeft")
        state.held += 1
        while body["model"] in state.slow:  # noqa: ASYNC110 - another thread changes it
            await asyncio.sleep(0.02)
        state.held -= 1
        return await answer(body, word)

    async def chatted(body: dict[str, Any], word: str) -> Any:
        if word == "trickle":
            return StreamingResponse(_trickle(body["model"], state), media_type="text/event-stream")
        if body.get("stream"):
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return StreamingResponse(_chunks(body["model"], word, usage), media_type="text/event-stream")
        return _head(body["model"], "chat.completion") | {"choices": [_choice(body, word)], "usage": USAGE}

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request):
        return await asked(request, chatted)

    @app.post("/v1/completions", response_model=None)
    async def complete(request: Request):
        return await asked(request, _plain)

    @app.post("/v1/responses", response_model=None)
    async def respond(request: Request):
        return await asked(request, _responded)

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
