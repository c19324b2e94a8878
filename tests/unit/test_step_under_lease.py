"""A handler under a lease: its end is the step's end, whatever the renewal is doing just then."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.platform.settings import platform_settings
from shared.queue.step_task import StepRunner

LATER = range(6)  # turns of the loop between the handler's end and the database's answer


@pytest.mark.parametrize("later", LATER)
async def test_a_handler_may_end_as_the_database_answers(later: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The renewal is cancelled in the turn in which its question is answered; `asyncio.wait_for` swallowed that on Python 3.11."""
    loop, asked, database = asyncio.get_running_loop(), asyncio.Event(), asyncio.Future[str]()

    async def to_thread(*_: Any) -> str:
        asked.set()
        return await database

    def answer(turns: int) -> None:
        if turns:
            loop.call_soon(answer, turns - 1)
        elif not database.done():
            database.set_result("running")

    async def handler() -> str:
        await asked.wait()
        loop.call_soon(answer, later)
        return "done"

    monkeypatch.setenv("METEOR_DATA", str(tmp_path))
    platform_settings.cache_clear()
    runner = StepRunner("test", {})
    platform_settings.cache_clear()
    steps = SimpleNamespace(job_status=None, renew=None)
    monkeypatch.setattr(StepRunner, "stores", SimpleNamespace(steps=steps))
    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    context = SimpleNamespace(claim=SimpleNamespace(key="distill/answers/0"))
    step = asyncio.ensure_future(runner._under_lease(cast(Any, handler()), cast(Any, context)))
    ended, _ = await asyncio.wait({step}, timeout=2)
    step.cancel()
    assert ended
    assert cast(Any, step.result()) == "done"
