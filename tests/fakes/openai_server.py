"""A small real server of the OpenAI protocol, shared by the fake teacher and the fake engine.

Answers depend on the messages alone. It does wrong on demand (POST /faults) and remembers every request (GET /log, and a
JSON line per request in a file), so that a ledger can be compared with what truly arrived.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.fakes.batch_api import FakeBatches
from tests.fakes.faults import Fault, Faults

Answerer = Callable[[list[dict[str, Any]], dict[str, Any]], str]


def digest(messages: list[dict[str, Any]]) -> int:
    """A number that depends on the messages alone."""
    return int.from_bytes(hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).digest()[:8])


class FakeOpenAI:
    """Routes and state. answer: (messages, body) -> text. latency_s: per request; concurrency: how many run at once."""

    def __init__(
        self, answer: Answerer, models: list[str], *, api_key: str, log: Path | None, latency_s: float, concurrency: int
    ):
        self.answer = answer
        self.models = models
        self.api_key = api_key
        self.log_file = log
        self.latency_s = latency_s
        self.room = asyncio.Semaphore(concurrency)
        self.bears = 1_000_000  # requests at once; what is too much gets a 429
        self.at_once = 0
        self.faults = Faults()
        self.entries: list[dict[str, Any]] = []
        self.listener: Listener | None = None
        self.batches = FakeBatches(self._in_batch, self.faults, self._allowed)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/models", self.list_models),
                Route("/health", self.health),
                Route("/log", self.get_log),
                Route("/faults", self.set_fault, methods=["POST"]),
                Route("/faults", self.clear_faults, methods=["DELETE"]),
                Route("/settings", self.set_settings, methods=["POST"]),
                *self.batches.routes(),
            ]
        )

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def list_models(self, request: Request) -> Response:
        if not self._allowed(request):
            return _error(401, "wrong API key", "invalid_api_key")
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "fake"} for name in self.models]
        return JSONResponse({"object": "list", "data": data})

    async def get_log(self, _: Request) -> Response:
        return JSONResponse(self.entries)

    async def set_fault(self, request: Request) -> Response:
        fault = Fault(**await request.json())
        if fault.kind == "down":
            assert self.listener is not None
            asyncio.get_running_loop().call_later(0.05, self.listener.down, fault.seconds)
        else:
            self.faults.add(fault)
        return JSONResponse({"set": fault.kind})

    async def clear_faults(self, _: Request) -> Response:
        self.faults.clear()
        return JSONResponse({"set": None})

    async def set_settings(self, request: Request) -> Response:
        """{latency_s, bears, batch_s}: seconds each request takes from now on, how many at once are not refused, and
        seconds until a batch is computed."""
        given = await request.json()
        self.latency_s = float(given.get("latency_s", self.latency_s))
        self.bears = int(given.get("bears", self.bears))
        self.batches.batch_s = float(given.get("batch_s", self.batches.batch_s))
        return JSONResponse({"latency_s": self.latency_s, "bears": self.bears, "batch_s": self.batches.batch_s})

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        fault = self.faults.draw()
        entry = self._note(request.headers.get("x-request-id"), body, fault)
        entry["traceparent"] = request.headers.get("traceparent")
        gone = asyncio.ensure_future(_disconnected(request))
        work = asyncio.ensure_future(self._respond(request, body, fault, entry))
        await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            entry["outcome"] = "client_gone"
            return Response(status_code=499)
        gone.cancel()
        return work.result()

    async def _respond(self, request: Request, body: dict, fault: Fault | None, entry: dict) -> Response:
        if not self._allowed(request):
            entry["outcome"] = "http_401"
            return _error(401, "wrong API key", "invalid_api_key")
        if self.at_once >= self.bears:
            entry["outcome"] = "429"
            return await Fault("429").response()
        self.at_once += 1
        try:
            return await self._served(body, fault, entry)
        finally:
            self.at_once -= 1

    async def _served(self, body: dict, fault: Fault | None, entry: dict) -> Response:
        async with self.room:
            await asyncio.sleep(self.latency_s)
            if fault is not None and fault.kind == "slow":
                await asyncio.sleep(fault.seconds)
                fault = None
            if fault is not None and fault.kind != "cut_stream":
                entry["outcome"] = fault.kind
                return await fault.response()
        text = self.answer(body["messages"], body)
        entry["outcome"] = "answered"
        entry["answer"] = text
        completion = _completion(body, text)
        for index in range(1, body.get("n") or 1):
            another = {"seed": body.get("seed"), "index": index}
            more = _completion(body, self.answer([*body["messages"][:-1], body["messages"][-1] | another], body))
            completion["choices"].append(more["choices"][0] | {"index": index})
        if body.get("stream"):
            cut = fault is not None
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return StreamingResponse(_stream(completion, usage, cut), media_type="text/event-stream")
        if fault is not None:
            return StreamingResponse(_half(completion), media_type="application/json")
        return JSONResponse(completion)

    def _allowed(self, request: Request) -> bool:
        return not self.api_key or request.headers.get("authorization") == f"Bearer {self.api_key}"

    def _in_batch(self, request_id: str, body: dict[str, Any]) -> dict[str, Any]:
        entry = self._note(request_id, body, None)
        entry |= {"outcome": "answered", "answer": self.answer(body["messages"], body), "batch": True}
        return _completion(body, entry["answer"])

    def _note(self, request_id: str | None, body: dict, fault: Fault | None) -> dict[str, Any]:
        entry = {
            "request_id": request_id,
            "at": time.time(),
            "model": body.get("model"),
            "stream": bool(body.get("stream")),
            "messages": body["messages"],
            "response_format": (body.get("response_format") or {}).get("type"),
            "fault": fault.kind if fault else None,
            "outcome": None,
        }
        self.entries.append(entry)
        if self.log_file is not None:
            with self.log_file.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        return entry


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _error(status: int, message: str, code: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "error", "param": None, "code": code}}, status)


def _completion(body: dict[str, Any], text: str) -> dict[str, Any]:
    """As OpenAI's; one word is one token, and max_tokens cuts."""
    words = text.split(" ")
    limit = body.get("max_tokens") or body.get("max_completion_tokens") or 10_000
    cut = len(words) > limit and "response_format" not in body
    kept = words[:limit] if cut else words
    asked = sum(len(str(message.get("content")).split()) for message in body["messages"])
    return {
        "id": f"chatcmpl-{digest(body['messages']):x}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body.get("model"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": " ".join(kept)},
                "finish_reason": "length" if cut else "stop",
            }
        ],
        "usage": {"prompt_tokens": asked, "completion_tokens": len(kept), "total_tokens": asked + len(kept)},
    }


async def _half(completion: dict[str, Any]) -> AsyncIterator[bytes]:
    yield json.dumps(completion).encode()[:40]
    raise ConnectionResetError("cut on purpose")


async def _stream(completion: dict[str, Any], include_usage: bool, cut: bool) -> AsyncIterator[bytes]:
    """Word by word. cut: the connection breaks after the first words."""
    choice = completion["choices"][0]
    head = {name: completion[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    words = choice["message"]["content"].split(" ")
    for place, word in enumerate(words):
        delta = {"content": word if place == 0 else f" {word}"} | ({"role": "assistant"} if place == 0 else {})
        yield _event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        await asyncio.sleep(0.005)
        if cut and place == min(1, len(words) - 1):
            raise ConnectionResetError("cut on purpose")
    yield _event(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    if include_usage:
        yield _event(head | {"choices": [], "usage": completion["usage"]})
    yield b"data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


class Listener:
    """The listening socket, which can go away for a while and come back: connections are refused meanwhile."""

    def __init__(self, app: Starlette, port: int, address: str = "127.0.0.1"):
        self.port = port
        self.address = address
        self.config = uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(self.config)

    def _socket(self) -> socket.socket:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((self.address, self.port))
        return listening

    async def serve(self) -> None:
        await self.server.serve(sockets=[self._socket()])

    def down(self, seconds: float) -> None:
        for listening in self.server.servers:
            listening.close()
        self.server.servers.clear()
        for connection in list(self.server.server_state.connections):
            if connection.transport is not None:
                connection.transport.close()
        asyncio.get_running_loop().call_later(seconds, lambda: asyncio.ensure_future(self._up()))

    async def _up(self) -> None:
        make: Any = self.config.http_protocol_class

        def protocol() -> Any:
            state = self.server.lifespan.state
            return make(config=self.config, server_state=self.server.server_state, app_state=state)

        again = await asyncio.get_running_loop().create_server(protocol, sock=self._socket())
        self.server.servers.append(again)


def run(answer: Answerer, description: str | None) -> None:
    """Command line of both fakes; serves until SIGTERM."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--address", default="127.0.0.1", help="where it listens")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--model", action="append", default=[], help="a name to list; every name is answered")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds per request")
    parser.add_argument("--concurrency", type=int, default=1_000_000, help="requests at once; the rest wait")
    parser.add_argument("--api-key", default="", help="ask for this key; without it none is needed")
    given = parser.parse_args()
    fake = FakeOpenAI(
        answer,
        given.model or ["fake"],
        api_key=given.api_key,
        log=given.log,
        latency_s=given.latency,
        concurrency=given.concurrency,
    )
    fake.listener = Listener(fake.app(), given.port, given.address)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(fake.listener.serve())
