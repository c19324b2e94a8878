"""What happens to the work for a client, and to a stream, when the client disconnects."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request

from shared.platform.disconnect import Stream, until_disconnected

SCOPE: dict[str, Any] = {"type": "http", "headers": []}


class Client:
    """The client's side of a request: what it was sent, and `leave`."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.got: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.got.append(message)

    def leave(self) -> None:
        self.gone.set()

    def until_disconnected(self, work: Any) -> Any:
        return until_disconnected(Request(SCOPE, self.receive), work)

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.got[1:]]


class Work:
    """Takes until `go` is set; tells how it ended."""

    def __init__(self) -> None:
        self.go, self.begun, self.ended = asyncio.Event(), asyncio.Event(), ""

    async def result(self) -> str:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        return "result"

    async def parts(self) -> AsyncIterator[bytes]:
        yield b"first"
        try:
            yield (await self.result()).encode()
        finally:
            self.ended += " and closed"


async def nothing_is_left() -> None:
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_result_of_work_and_its_error_reach_the_caller():
    client, work = Client(), Work()
    work.go.set()
    assert await client.until_disconnected(work.result()) == "result"

    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("nothing there")

    with pytest.raises(LookupError):
        await client.until_disconnected(fails())
    await nothing_is_left()


async def test_work_for_a_client_that_leaves_is_cancelled_and_the_code_after_it_goes_on():
    client, work = Client(), Work()
    asked = asyncio.create_task(client.until_disconnected(work.result()))
    await work.begun.wait()
    client.leave()
    assert await asked is None
    assert (work.ended, asked.cancelling()) == ("cancelled", 0)
    await nothing_is_left()


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_cancellation_from_outside_stays_one(leaves: bool):
    client, work = Client(), Work()
    asked = asyncio.create_task(client.until_disconnected(work.result()))
    await work.begun.wait()
    asked.cancel()
    if leaves:
        client.leave()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert work.ended == "cancelled"
    await nothing_is_left()


async def test_what_is_shielded_goes_on_after_the_client_left():
    client, work = Client(), Work()
    shielded = asyncio.create_task(work.result())
    asked = asyncio.create_task(client.until_disconnected(asyncio.shield(shielded)))
    await work.begun.wait()
    client.leave()
    assert await asked is None
    work.go.set()
    assert await shielded == "result"


async def test_a_connection_that_cannot_be_read_is_a_lost_one():
    work = Work()

    async def broken() -> Any:
        raise OSError("no connection")

    assert await until_disconnected(Request(SCOPE, broken), work.result()) is None
    assert work.ended == "cancelled"
    await nothing_is_left()


async def test_a_stream_is_sent_to_its_end():
    client, work = Client(), Work()
    work.go.set()
    await Stream(work.parts())(SCOPE, client.receive, client.send)
    assert client.bodies == [b"first", b"result", b""]
    assert [message.get("more_body") for message in client.got] == [None, True, True, False]
    await nothing_is_left()


async def test_the_headers_and_the_first_part_are_sent_before_another_task_gets_its_turn():
    client, work = Client(), Work()
    seen: list[int] = []
    sent = asyncio.create_task(Stream(work.parts())(SCOPE, client.receive, client.send))
    asyncio.get_running_loop().call_soon(lambda: seen.append(len(client.got)))
    await work.begun.wait()
    assert seen == [2]
    work.go.set()
    await sent


async def test_a_stream_to_a_client_that_leaves_is_closed():
    client, work = Client(), Work()
    sent = asyncio.create_task(Stream(work.parts())(SCOPE, client.receive, client.send))
    await work.begun.wait()
    client.leave()
    await sent
    assert (client.bodies, work.ended) == ([b"first"], "cancelled and closed")
    await nothing_is_left()
