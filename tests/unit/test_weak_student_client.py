"""The worker's rows stand behind chats in the engine's queue, where the engine has such a queue."""

from services.weak_model.worker.student_client import StudentClient
from shared.contracts.engine import Priority
from shared.contracts.steps import Sampling
from tests.fakes.vllm import FakeVllm, running_vllm

ASK = [{"role": "user", "content": "hello"}]


def priorities(engine: FakeVllm) -> list[int | None]:
    return [body.get("priority") for body, _ in engine.asked]


async def test_rows_come_after_chats_and_an_engine_without_priorities_is_asked_without():
    with running_vllm({"m"}) as engine:
        async with StudentClient(engine.url, "", 20, 5) as client:
            assert (await client.complete("m", ASK, Sampling(), 1)).text == "hello"
        engine.takes_priority = False
        async with StudentClient(engine.url, "", 20, 5) as client:
            for _ in range(2):
                assert (await client.complete("m", ASK, Sampling(), 1)).text == "hello"
    assert priorities(engine) == [Priority.STEP, Priority.STEP, None, None]
    assert Priority.CHAT < Priority.STEP < Priority.SHADOW
