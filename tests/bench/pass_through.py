"""The least that a proxy of chats can do: `python -m tests.bench.pass_through --port N --engine URL [--client httpx|aiohttp]`.

It reads the body, sends it on as it is and passes the engine's bytes back. No key, no alias, no checks, no metrics.
"""

import argparse
import contextlib
from collections.abc import AsyncGenerator

import aiohttp
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

HEADERS = {"content-type": "application/json"}


async def by_httpx(http: httpx.AsyncClient, body: bytes) -> AsyncGenerator[bytes, None]:
    async with http.stream("POST", "/v1/chat/completions", content=body, headers=HEADERS) as answer:
        async for part in answer.aiter_raw():
            yield part


async def by_aiohttp(http: aiohttp.ClientSession, body: bytes) -> AsyncGenerator[bytes, None]:
    async with http.post("/v1/chat/completions", data=body, headers=HEADERS) as answer:
        async for part in answer.content.iter_any():
            yield part


def app(engine: str, client: str) -> Starlette:
    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[dict[str, object]]:
        if client == "httpx":
            async with httpx.AsyncClient(base_url=engine, timeout=600, trust_env=False) as http:
                yield {"ask": lambda body: by_httpx(http, body)}
        else:
            async with aiohttp.ClientSession(engine, connector=aiohttp.TCPConnector(limit=1024)) as http:
                yield {"ask": lambda body: by_aiohttp(http, body)}

    async def chat(request: Request) -> Response:
        parts = request.state.ask(await request.body())
        return StreamingResponse(parts, media_type="text/event-stream")

    async def health(_: Request) -> Response:
        return JSONResponse({})

    routes = [Route("/v1/chat/completions", chat, methods=["POST"]), Route("/health", health)]
    return Starlette(routes=routes, lifespan=lifespan)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--client", choices=("httpx", "aiohttp"), default="httpx")
    given = parser.parse_args()
    uvicorn.run(
        app(given.engine, given.client), host="127.0.0.1", port=given.port, log_level="warning", access_log=False
    )
