"""The whole loop in one process: stored chats with feedback become a job by a recipe, its version is promoted by its canary, and one that
harms returns by itself. The orchestrator is stopped in the middle. Only the workers pretend.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.canary import CanaryTerms
from shared.contracts.feedback import FeedbackRequest
from shared.contracts.notices import NoticeKind
from shared.contracts.webhooks import WebhookEvent
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.simulated import World
from tests.fakes.system import System
from tests.integration.test_recipes_of_chats import JOB, correct, recipe, serve, step, until_made

ALIAS = "looped"
TERMS: dict[str, Any] = {"goal": {"metric": "feedback", "min_requests": 10}, "steps": [50], "promote": True}


def served(system: System) -> int:
    model = system.stores.catalog.served(DEFAULT_PROJECT, ALIAS)
    assert model is not None
    return model.version


def rate(system: System, start: int, *ratings: tuple[int, str], users: int = 60) -> None:
    """Users ask versions, and each rates them."""
    for place, (version, rating) in enumerate(ratings):
        numbers = range(start + place * users, start + (place + 1) * users)
        serve(system, *numbers, alias=ALIAS, version=version, many_users=True)
        for number in numbers:
            chat = system.stores.chats.get(DEFAULT_PROJECT, f"chatcmpl-{number:04}")
            system.stores.feedback.put(
                chat, FeedbackRequest.model_validate({"completion_id": chat.id, "rating": rating})
            )


def told(system: System) -> list[str]:
    notices, _ = system.stores.notices.page(DEFAULT_PROJECT, NoticeKind.CANARY, ALIAS, None, 100)
    return [one.type for one in reversed(notices)]


async def until_told(system: System, *types: str) -> None:
    deadline = time.monotonic() + 600
    while told(system) != list(types):
        assert time.monotonic() < deadline, told(system)
        await asyncio.sleep(0.05)


async def test_use_makes_the_next_version_and_decides_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    system = System(tmp_path, monkeypatch, World(0.1, train=lambda request, before: 0.4))
    hook = system.stores.webhooks.add(DEFAULT_PROJECT, "hook", "https://hooks.example/x", list(WebhookEvent))
    job = JOB | {"distillation": JOB["distillation"] | {"canary": TERMS}}
    made = recipe(system, job)
    serve(system, *range(100))
    correct(system, *range(100))
    async with system.running():
        first = (await until_made(system, made, 1)).last_run
        assert first is not None
        await system.until(first.job_id or "", "succeeded", within_s=600)
        assert (served(system), told(system)) == (1, []), (
            "nothing was served before, so there is nothing to compare with"
        )

        system.world.train = lambda request, before: 1.0
        serve(system, *range(100, 200), alias=ALIAS, version=1)
        correct(system, *range(100, 200))
        second = (await until_made(system, made, 2)).last_run
        assert second is not None
        await system.until_ran(second.job_id or "", 1)
    step(system)
    async with system.running():  # another orchestrator takes the job up
        system.expire_leases()
        await system.until(second.job_id or "", "succeeded", within_s=600)
        assert (served(system), told(system)) == (1, ["started"])
        rate(system, 1000, (1, "down"), (2, "up"))
        await until_told(system, "started", "promoted")
        assert served(system) == 2

        system.stores.canaries.set(DEFAULT_PROJECT, ALIAS, 1, CanaryTerms.model_validate(TERMS))
        rate(system, 2000, (2, "up"), (1, "down"))
        await until_told(system, "started", "promoted", "started", "returned")
        assert served(system) == 2
    deliveries, _ = system.stores.webhooks.deliveries(DEFAULT_PROJECT, hook.id, None, 100)
    of_canaries = [one.type for one in reversed(deliveries) if "canary" in one.type]
    assert of_canaries == [WebhookEvent.CANARY_PROMOTED, WebhookEvent.CANARY_RETURNED]
