"""What the fake servers can be told to do wrong."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

Kind = Literal[
    "400",
    "rejected",
    "401",
    "429",
    "quota",
    "500",
    "503",
    "html",
    "empty_choice",
    "empty",
    "refusal",
    "invalid_json",
    "hang",
    "slow",
    "cut_stream",
    "huge",
    "down",
    "batch_away",
    "batch_unknown",
    "batch_failed",
    "batch_full",
    "batch_lost",
    "batch_file_lost",
    "batch_file_stays",
    "batch_expired",
    "batch_row",
    "batch_field",
]
MESSAGES = {
    "rejected": "the request does not please this server",
    "400": "this model's maximum context length of 300 tokens was exceeded",
    "401": "Incorrect API key provided: sk-fake***1234",
    "429": "rate limit reached",
    "quota": "you exceeded your current quota",
    "500": "something broke",
    "503": "overloaded",
}
MB = b" " * 1_000_000


@dataclass
class Fault:
    """kind, the share of requests it meets, how many times (0: without end), and what a 429 asks for.

    cut_stream: the connection breaks in the middle of an answer. down: nobody listens for `seconds`. slow: the answer is
    right and takes so long. skip: so many requests are spared first. batch_away, batch_unknown: its routes answer 503, or 404.
    batch_failed, batch_full: it is not computed. batch_lost: it is created and the answer is a 500. batch_file_lost: the
    same of its file. batch_file_stays: a file is not deleted. batch_expired: half of
    it is not computed. batch_row: a request of it fails. batch_field: one
    that has top_p is refused for it.
    """

    kind: Kind
    rate: float = 1.0
    times: int = 0
    retry_after: float | None = None
    seconds: float = 2.0
    skip: int = 0

    async def response(self) -> Response:
        if self.kind == "hang":
            await asyncio.Event().wait()
        if self.kind in MESSAGES:
            headers = {"retry-after": str(self.retry_after)} if self.retry_after is not None else None
            code = "insufficient_quota" if self.kind == "quota" else f"fake_{self.kind}"
            error = {"message": MESSAGES[self.kind], "type": "fake_error", "param": None, "code": code}
            status = {"quota": 429, "rejected": 400}.get(self.kind) or int(self.kind)
            return JSONResponse({"error": error}, status, headers)
        if self.kind == "html":
            return HTMLResponse("<!doctype html><html><body>Welcome</body></html>")
        if self.kind == "empty_choice":
            return JSONResponse({"id": "x", "object": "chat.completion", "choices": []})
        if self.kind == "invalid_json":
            return Response('{"choices": [{"message": ', media_type="application/json")
        if self.kind == "huge":
            return StreamingResponse(_megabytes(40), media_type="application/json")
        content = "I'm sorry, but I can't help with that." if self.kind == "refusal" else ""
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({"id": "x", "object": "chat.completion", "choices": [choice]})


async def _megabytes(count: int) -> AsyncIterator[bytes]:
    yield b'{"choices": ['
    for _ in range(count):
        yield MB


class Faults:
    """Faults in force, oldest first; each draw is one request. Repeats itself exactly: the dice have a fixed seed."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.active: list[Fault] = []
        self.left: list[int] = []
        self.dice = random.Random(0)

    def add(self, fault: Fault) -> None:
        self.active.append(fault)
        self.left.append(fault.times or -1)

    def draw(self, of_batches: str | None = None) -> Fault | None:
        """of_batches: a kind that only the batch API commits; without it one of the others."""
        for place, fault in enumerate(self.active):
            if fault.kind != of_batches and (of_batches or fault.kind.startswith("batch_")):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if self.left[place] != 0 and self.dice.random() < fault.rate:
                self.left[place] -= 1
                return fault
        return None
