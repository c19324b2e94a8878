"""Waiting for work while watching whether the client is still connected."""

import asyncio
from typing import TypeVar

from fastapi import Request

Result = TypeVar("Result")


async def until_disconnected(request: Request, work: "asyncio.Future[Result]") -> Result | None:
    """The result of `work`; None when the client disconnects first. `work` is not cancelled."""
    disconnected = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({work, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        disconnected.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
