"""An engine that streams at a fixed pace: `python -m tests.fakes.paced --port N --model NAME [--gap 0.02]`.

The first chunk comes at once; from then on all streams beat together, as in an engine that computes them as one batch. The text of a chunk is the moment at which it was
handed to the server, in nanoseconds of the machine's monotonic clock, so that whoever reads it knows how long it was under way.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

SENT = 'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":MODEL,"choices":[{"index":0,'


async def stamps(model: str, tokens: int, gap_s: float) -> AsyncIterator[bytes]:
    head = SENT.replace("MODEL", json.dumps(model))
    loop = asyncio.get_running_loop()
    beat = int(loop.time() / gap_s)
    for number in range(1, tokens + 1):
        if number > 1:
            await asyncio.sleep((beat + number) * gap_s - loop.time())
        delta = f'"delta":{{"content":"@{time.monotonic_ns()}@"}},"logprobs":null,"finish_reason":null,"token_ids":null}}]}}'
        yield f"{head}{delta}\n\n".encode()
    yield b"data: [DONE]\n\n"


def paced_app(models: list[str], gap_s: float) -> Starlette:
    async def chat(request: Request) -> Response:
        body = await request.json()
        beating = stamps(body["model"], int(body.get("max_tokens", 64)), gap_s)
        return StreamingResponse(beating, media_type="text/event-stream")

    async def names(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in models]})

    async def health(_: Request) -> Response:
        return JSONResponse({})

    routes = [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/models", names),
        Route("/health", health),
    ]
    return Starlette(routes=routes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--gap", type=float, default=0.02, help="seconds between two tokens of a stream")
    given = parser.parse_args()
    app = paced_app(given.model, given.gap)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning", access_log=False)
