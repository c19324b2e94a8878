"""Limits of a provider: they cost time and no attempts, all calls of the provider wait together, and a long pause is a rest."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from services.strong_model.gateway import completions
from shared.contracts.errors import Postponed, ProviderPaused
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepRequest, StepResult
from shared.db.engine import writing
from shared.ledger.tables import answers
from tests.fakes.gateway import Gateway, ask, one, running_gateway
from tests.fakes.quotas import WAYS, Quota, refusal, serving
from tests.fakes.simulated import Simulation, questions
from tests.fakes.start import start_teacher
from tests.integration.test_flawed_teacher import Served

ROWS = 40
PATIENCE = {"METEOR_STRONG_DEADLINE": "PT60S", "METEOR_STRONG_CONCURRENCY": "16", "METEOR_STRONG_ATTEMPTS": "2"}
DAY = refusal("Rate limit reached on tokens per day (TPD): Limit 100000. Please try again in 2h9m38s.")


@pytest.fixture(scope="module")
def quotas() -> dict[str, Quota]:
    ways = {name: Quota(say) for name, say in WAYS.items()}
    return ways | {
        "day": Quota(DAY, room=3, window_s=8000),
        "never": Quota(WAYS["header"], room=0, window_s=0.3),
        "part": Quota(WAYS["words"], room=10, window_s=1.5),
    }


@pytest.fixture(scope="module")
def gateway(quotas: dict[str, Quota], tmp_path_factory) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("quotas")
    with serving(quotas) as urls, start_teacher() as teacher:
        entries = {name: {"base_url": url, "model": "m"} for name, url in urls.items()}
        (folder / "providers.json").write_text(json.dumps({"providers": entries}))
        more = PATIENCE | {"METEOR_PROVIDERS_FILE": str(folder / "providers.json")}
        with running_gateway(teacher, folder, **more) as started:
            yield started


async def ask_all(gateway: Gateway, name: str, rows: int = ROWS) -> list:
    calls = (one(gateway, ask(f"{name} {n}"), model=name) for n in range(rows))
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("way", WAYS)
async def test_every_row_is_answered_and_few_are_refused(gateway: Gateway, quotas: dict[str, Quota], way: str):
    """Five windows' worth at once, and two attempts a request: refusals are no attempts."""
    replies = await ask_all(gateway, way)
    assert [reply for reply in replies if isinstance(reply, BaseException)] == []
    assert quotas[way].answered == ROWS
    assert quotas[way].refused <= 2 * ROWS


async def test_a_day_s_quota_ends_calls_at_once_and_says_until_when(gateway: Gateway, quotas: dict[str, Quota]):
    began = time.monotonic()
    replies = await ask_all(gateway, "day")
    assert time.monotonic() - began < 20
    paused = [reply for reply in replies if isinstance(reply, ProviderPaused)]
    assert len(paused) == ROWS - 3
    assert paused[0].again_in_s == pytest.approx(2 * 3600 + 9 * 60 + 38, abs=60)
    assert "until 20" in paused[0].message
    assert "tokens per day" in paused[0].message
    assert quotas["day"].refused <= 16, "one burst, then nothing is sent"


@pytest.fixture(scope="module")
def hasty(gateway: Gateway, quotas: dict[str, Quota], tmp_path_factory) -> Iterator[Gateway]:
    """A gateway that waits half a second for a provider at most."""
    folder: Path = tmp_path_factory.mktemp("hasty")
    with serving({name: quotas[name] for name in ("never", "part")}) as urls:
        entries = {name: {"base_url": url, "model": "m"} for name, url in urls.items()}
        (folder / "providers.json").write_text(json.dumps({"providers": entries}))
        more = {"METEOR_PROVIDERS_FILE": str(folder / "providers.json"), "METEOR_STRONG_LONGEST_WAIT": "PT0.5S"}
        more |= {"METEOR_STRONG_DEADLINE": "PT2S"}
        with running_gateway(gateway.teacher, folder, **more) as started:
            yield started


async def test_a_limit_that_never_ends_becomes_a_rest_and_no_failure(quotas: dict[str, Quota], hasty: Gateway):
    with pytest.raises(ProviderPaused):
        await one(hasty, ask("never"), model="never")
    assert quotas["never"].refused > 3


class Resting(Served):
    """Its steps rest as long as they are told, as those of the queue do, and go on then."""

    def __init__(self, gateway: Gateway, **options: Any):
        super().__init__(gateway, **options)
        self.rests: list[Postponed] = []

    async def run(self, job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        while True:
            try:
                return await super().run(job, key, request, limit, on_progress)
            except Postponed as rest:
                self.rests.append(rest)
                await asyncio.sleep(rest.again_in_s)


async def test_a_job_rests_while_its_teachers_quota_is_used_up_and_pays_each_row_once(
    quotas: dict[str, Quota], hasty: Gateway
):
    folder, world = Path(hasty.ledger.engine.url.database or "").parent, Resting(hasty, base_skill=0.5)
    report = await Simulation(folder).job(
        world,
        questions(train=24, dev=4, test=4),
        phases=["distill"],
        guidance="none",
        teacher={"provider": "part"},
        distill={"questions": 24},
        evaluation={"baselines": [], "forgetting": 0, "judged_questions": 0, "absolute_scores": False},
    )
    assert (report["phases"]["distill"]["kept"], report["phases"]["distill"]["dropped"]) == (24, {})
    assert quotas["part"].answered == 24 == len(set(quotas["part"].asked))
    assert 1 <= len(world.rests) <= 6
    assert all("until 20" in rest.message and rest.again_in_s <= 2 for rest in world.rests)


async def test_two_servers_with_the_same_model_do_not_share_answers(gateway: Gateway, quotas: dict[str, Quota]):
    first = await one(gateway, ask("whose"), model="header")
    other = await one(gateway, ask("whose"), model="words")
    again = await one(gateway, ask("whose"), model="header")
    assert (first.cached, other.cached, again.cached) == (False, False, True)
    assert again.call_id == first.call_id != other.call_id


async def test_an_answer_of_the_time_when_the_provider_was_no_part_of_the_key_is_found_for_its_provider_alone(
    gateway: Gateway,
):
    """The hash of such an answer has the request alone in it."""
    asked = [{"role": "user", "content": "an old question"}]
    first = await one(gateway, asked, model="header")
    request = {"model": "m", "messages": asked, "max_tokens": 50, "temperature": 0.0}
    former = completions.request_hash(request)
    with writing(gateway.ledger.engine) as connection:
        moved = update(answers).where(answers.c.call_id == first.call_id).values(request_hash=former)
        connection.execute(moved)
    other = await one(gateway, asked, model="words")
    again = await one(gateway, asked, model="header")
    assert (other.cached, again.cached, again.call_id) == (False, True, first.call_id)
