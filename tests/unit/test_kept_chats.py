"""A streamed chat on its way to the store: its id, and what becomes of streams that make no sense."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.api.features.chat.keeping import Keeping
from services.api.features.chat.recorder import Draft, Recorder
from services.api.model_router import Target
from services.api.settings import ApiSettings
from shared.contracts.chat import ChatRequest
from shared.jobs.chat_store import ChatStore
from shared.jobs.schema import open_stores
from shared.jobs.tables import DEFAULT_PROJECT


class Seen(Recorder):
    """Remembers what it was given."""

    def __init__(self, chats: ChatStore):
        super().__init__(chats, ApiSettings())
        self.answers: list[Any] = []
        self.not_answered = 0

    def keep(self, draft: Draft, answer: Any, size: int) -> None:
        self.answers.append(answer)

    def broken(self, draft: Draft) -> None:
        self.not_answered += 1


@pytest.fixture
def recorder(sqlite_url: str) -> Seen:
    return Seen(open_stores(sqlite_url).chats)


def line(value: Any) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return line({"id": "chatcmpl-engine", "object": "chat.completion.chunk", "choices": [choice]} | more)


DONE = b"data: [DONE]\n\n"


async def told(recorder: Seen, *parts: bytes) -> tuple[str, bytes]:
    """(the id, the stream as the client gets it)"""
    request = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "hi"}], "store": True})
    draft = Draft("proj", Target("m", "m", "m", "m"), request, "req", mask=False)

    async def given() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    keeping = Keeping(recorder, draft, lambda message: message)
    return draft.id, b"".join([part async for part in keeping.lines(given())])


async def test_the_id_changes_everywhere_and_in_no_text(recorder: Seen):
    text = 'say "id":"chatcmpl-engine" and chatcmpl-engine'
    call = {"index": 0, "id": "chatcmpl-engine-tool", "function": {"name": "f", "arguments": "{}"}}
    parts = chunk({"content": text}) + chunk({"tool_calls": [call]}), chunk({}, "stop"), DONE
    name, shown = await told(recorder, *parts)
    chunks = [json.loads(part[6:]) for part in shown.split(b"\n\n") if part.startswith(b"data: {")]
    assert {one["id"] for one in chunks} == {name}
    assert chunks[0]["choices"][0]["delta"]["content"] == text
    (answer,) = recorder.answers
    message = answer["choices"][0]["message"]
    assert (message["content"], message["tool_calls"][0]["id"]) == (text, "chatcmpl-engine-tool")


STRANGE: list[tuple[bytes, ...]] = [
    (line({"id": "x", "choices": [{"index": 0, "delta": "text"}]}), DONE),
    (line({"id": "x", "choices": [7]}), DONE),
    (line({"id": "x", "choices": {"a": 1}}), DONE),
    (line({"id": 7, "choices": []}), DONE),
    (b"data: {no json}\n\n", chunk({"content": "a"}, "stop"), DONE),
    (chunk({"content": ["a"]}, "stop"), chunk({"content": "b"}), DONE),
    (chunk({"tool_calls": [{"index": 10**12, "function": None}]}), DONE),
    (chunk({"tool_calls": [{"index": "one", "function": {"name": 5}}]}, "stop"), DONE),
    (chunk({"content": "no end"}), DONE),
    (chunk({"content": "no mark"}, "stop"),),
    (chunk({"content": "a"}), line({"error": {"message": "m"}}), chunk({}, "stop"), DONE),
    (b": a comment\n\n", DONE),
    (),
]


@pytest.mark.parametrize("parts", STRANGE, ids=range(len(STRANGE)))
async def test_a_stream_that_makes_no_sense_passes_and_is_not_stored(recorder: Seen, parts: tuple[bytes, ...]):
    name, shown = await told(recorder, *parts)
    given = b"".join(parts).replace(b'"id":"x"', b'"id":"' + name.encode() + b'"')
    assert shown == given.replace(b'"id":"chatcmpl-engine"', b'"id":"' + name.encode() + b'"')
    assert (recorder.answers, recorder.not_answered) == ([], 1)


async def test_a_call_with_a_large_number_costs_nothing(recorder: Seen):
    await told(
        recorder, chunk({"tool_calls": [{"index": 10**12, "function": {"name": "f", "arguments": "{}"}}]}, "stop"), DONE
    )
    (answer,) = recorder.answers
    assert [call["function"]["name"] for call in answer["choices"][0]["message"]["tool_calls"]] == ["f"]


async def test_a_reader_waits_for_what_was_answered_before_it_came(sqlite_url: str):
    chats = open_stores(sqlite_url).chats
    recorder = Recorder(chats, ApiSettings())
    request = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "hi"}], "store": True})

    def keep() -> str:
        draft = Draft(DEFAULT_PROJECT, Target("m", "m", "m", "m"), request, "req", mask=False)
        recorder.keep(draft, {"choices": []}, 20)
        return draft.id

    writing = asyncio.create_task(recorder.run())
    try:
        for name in [keep() for _ in range(3)]:
            assert await recorder.settled(30)
            assert chats.get(DEFAULT_PROJECT, name).id == name
        with chats.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # nobody else can write now
            last = keep()
            assert not await recorder.settled(0.2)
            connection.exec_driver_sql("ROLLBACK")
        assert await recorder.settled(40)
        assert chats.get(DEFAULT_PROJECT, last).id == last
    finally:
        writing.cancel()
