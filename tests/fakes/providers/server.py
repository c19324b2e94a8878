"""Serves every simulated provider below its own path: `python -m tests.fakes.providers.server --port N --log FILE`.

http://127.0.0.1:N/<name>/v1 is a provider's base URL; /<name>/log and /<name>/faults are as tests.fakes.openai_server has
them. A log entry has the whole `body` that arrived.
"""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from tests.fakes import openai_server
from tests.fakes.faults import Fault
from tests.fakes.openai_server import FakeOpenAI, Listener
from tests.fakes.providers.manners import Asked, Body, Manners, completion
from tests.fakes.providers.speech import say
from tests.fakes.providers.table import PROVIDERS
from tests.fakes.start import FakeServer, start_teacher

PULSE_S = 0.1
KEY = "sk-simulated-key"


class SimulatedProvider(FakeOpenAI):
    """One provider with the manners of its row."""

    def __init__(self, manners: Manners):
        super().__init__(say, ["simulated"], api_key=KEY, log=None, latency_s=0.0, concurrency=1_000_000)
        self.manners = manners

    def app(self) -> Starlette:
        app = super().app()
        app.router.routes.insert(0, Route(self.manners.path, self.chat, methods=["POST"]))
        return app

    async def chat(self, request: Request) -> Response:
        request.state.asked = Asked(await request.json(), request.headers, request.query_params)
        return await super().chat(request)

    async def _respond(self, request: Request, body: Body, fault: Fault | None, entry: Body) -> Response:
        entry["body"], entry["query"] = body, dict(request.query_params)
        if self._allowed(request):
            for check in self.manners.checks:
                refusal = check(request.state.asked)
                if refusal is not None:
                    entry["outcome"] = "refused"
                    return refusal
            entry["asked"] = request.state.asked
        try:
            return await super()._respond(request, body, fault, entry)
        finally:
            entry.pop("asked", None)

    async def _served(self, body: Body, fault: Fault | None, entry: Body) -> Response:
        if fault is not None:
            return await super()._served(body, fault, entry)
        asked: Asked = entry["asked"]
        answer = completion(asked, self.answer(body["messages"], body), self.manners)
        entry |= {"outcome": "answered", "answer": answer}
        if not body.get("stream") or not answer.get("choices"):
            return await self._whole(answer)
        usage = self.manners.usage_streamed and bool((body.get("stream_options") or {}).get("include_usage"))
        return StreamingResponse(self._streamed(answer, usage), media_type="text/event-stream")

    async def _whole(self, answer: Body) -> Response:
        if not self.manners.pulse:
            await asyncio.sleep(self.manners.quiet_s)
            return JSONResponse(answer)
        return StreamingResponse(self._pulsed(answer), media_type="application/json")

    async def _pulsed(self, answer: Body) -> AsyncIterator[bytes]:
        for _ in range(int(self.manners.quiet_s / PULSE_S)):
            yield b"\n"
            await asyncio.sleep(PULSE_S)
        yield bytes(JSONResponse(answer).body)

    async def _streamed(self, answer: Body, usage: bool) -> AsyncIterator[bytes]:
        """Each part of the message in two pieces."""
        for _ in range(int(self.manners.quiet_s / PULSE_S)):
            if self.manners.pulse:
                yield f"{self.manners.pulse}\n\n".encode()
            await asyncio.sleep(PULSE_S)
        head = {name: answer.get(name) for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
        for choice in answer["choices"]:
            index = choice.get("index", 0)
            for delta in _deltas(choice["message"]):
                yield openai_server._event(
                    head | {"choices": [{"index": index, "delta": delta, "finish_reason": None}]}
                )
            more = {name: choice[name] for name in choice if name not in ("index", "message")}
            yield openai_server._event(head | {"choices": [{"index": index, "delta": {}} | more]})
        if usage:
            yield openai_server._event(head | {"choices": [], "usage": answer.get("usage")})
        yield b"data: [DONE]\n\n"

    def _allowed(self, request: Request) -> bool:
        given = request.headers.get(self.manners.key_header, "")
        return given == (f"Bearer {KEY}" if self.manners.key_header == "authorization" else KEY)


def _deltas(message: Body) -> Iterator[Body]:
    yield {"role": "assistant", "content": None if isinstance(message.get("content"), list) else ""}
    for name, value in message.items():
        if name == "role":
            continue
        if isinstance(value, str):
            middle = len(value) // 2
            yield from ({name: piece} for piece in (value[:middle], value[middle:]))
        elif value is not None:
            yield {name: value}


def everything() -> Starlette:
    providers = {name: SimulatedProvider(manners) for name, manners in PROVIDERS.items()}
    routes = [Mount(f"/{name}", app=provider.app()) for name, provider in providers.items()]

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "providers": list(providers)})

    return Starlette(routes=[Route("/health", health), *routes])


@contextmanager
def simulated_providers() -> Generator[dict[str, FakeServer]]:
    """All of them, in one process on a free port, by name; `.base_url` is what a provider's settings take, KEY its key."""
    with start_teacher(module="tests.fakes.providers.server") as server:
        yield {name: FakeServer(f"{server.url}/{name}", server.log_file) for name in PROVIDERS}


def providers_file(servers: dict[str, FakeServer], **more: dict[str, Any]) -> dict[str, Any]:
    """Content of METEOR_PROVIDERS_FILE (as JSON) for all of them; the key is in the variable SIMULATED_KEY.

    more: further options by provider; a name with a dash is written with an underscore.
    """
    entries: dict[str, Any] = {}
    for name, server in servers.items():
        base_url = f"{server.url}{PROVIDERS[name].path.removesuffix('/chat/completions')}"
        entry = {"base_url": base_url, "model": f"{name}-model", "api_key_env": "SIMULATED_KEY"}
        entries[name] = entry | more.get(name.replace("-", "_"), {})
    return {"providers": entries}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path)
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Listener(everything(), given.port).serve())


if __name__ == "__main__":
    main()
