"""The version that a job's student is compared with stays the same one, and alone is replaced, wherever the alias moves meanwhile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.orchestrator.method.pipeline import meteor
from shared.contracts.jobs import JobStatus
from shared.contracts.report import Report
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Method, ModelRef, StepRequest, StepResult, content_hash
from shared.jobs.records import JobRecord, ModelRecord
from shared.jobs.tables import DEFAULT_PROJECT
from shared.reporting.markdown import as_markdown
from tests.fakes.simulated import BASE, Simulation, World, questions

ALIAS = "expert"
SPEC: dict[str, Any] = {"phases": ["distill"], "evaluation": {"baselines": []}}
ROWS = questions(train=30, dev=60, test=20)
COMPARES, REPORTS = "evaluate/dev/served/answers/0", "evaluate/test/base/answers/0"


class Killed(Exception):
    """The orchestrator dies."""


class Shop:
    """An alias that serves its first version, whose second one is there too, and a job that trains a better third one."""

    def __init__(self, folder: Path, serves: bool = True):
        self.simulation = Simulation(folder)
        self.world = World(0.3, train=lambda request, before: 0.95)
        self.catalog = self.simulation.stores.catalog
        self.at: dict[str, Callable[[], object]] = {}  # by key: what happens as the step begins, once
        self.inputs: dict[str, str] = {}
        first = self.claimed(seed=7)
        self.versions = [
            self.catalog.publish(DEFAULT_PROJECT, ALIAS, self.student(digit), first.id, "promoted") for digit in "12"
        ]
        assert self.simulation.stores.jobs.end(first, JobStatus.SUCCEEDED)
        if serves:
            self.catalog.serve(DEFAULT_PROJECT, self.versions[0])
        self.job = self.claimed(seed=0)

    def claimed(self, seed: int) -> JobRecord:
        jobs = self.simulation.stores.jobs
        jobs.create(DEFAULT_PROJECT, self.simulation.request(ALIAS, seed, **SPEC))
        row = jobs.claim("simulation", 3600)
        assert row is not None
        return row

    def student(self, digit: str) -> ModelRef:
        ref = BASE.trained(Method.LORA, digit * 64)
        self.world.skills[ref.tuned] = 0.4
        return ref

    async def step(self, job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        """As StepClient.run, a replay of a step must have the inputs of before."""
        name, inputs = str(key), content_hash([request.model_dump(mode="json")])
        assert self.inputs.setdefault(name, inputs) == inputs, f"step {name} ran with other inputs"
        self.at.pop(name, lambda: None)()
        return await self.world.run(job, key, request, limit, on_progress)

    async def run(self) -> Report:
        run = self.simulation.new_run(self.job, self.step, ROWS)
        return await meteor(run.context, run)

    async def killed(self) -> None:
        """Run the job until what happens at a step ends its orchestrator."""
        with pytest.raises(BaseExceptionGroup) as caught:
            await self.run()
        assert caught.value.subgroup(Killed) is not None

    @property
    def served(self) -> ModelRecord:
        served = self.catalog.served(DEFAULT_PROJECT, ALIAS)
        assert served is not None
        return served

    def said(self) -> list[str]:
        return [event.message for event in self.simulation.stores.jobs.events(self.job.id)]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


async def test_a_better_student_replaces_the_version_that_it_was_compared_with(shop: Shop):
    promotion = (await shop.run()).promotion
    assert (promotion.state, promotion.against, promotion.compared_with) == ("promoted", "served", f"{ALIAS}@1")
    assert promotion.served_meanwhile is None
    assert f"{shop.served.alias}@{shop.served.version}" == promotion.model


async def test_another_version_that_is_served_meanwhile_stays(shop: Shop):
    _, second = shop.versions
    shop.at[COMPARES] = lambda: shop.catalog.serve(DEFAULT_PROJECT, second)
    report = await shop.run()
    promotion = report.promotion
    assert (promotion.state, promotion.compared_with) == ("promoted", f"{ALIAS}@1")
    assert promotion.served_meanwhile == f"{ALIAS}@2"
    assert shop.served.id == second.id, "nobody has compared the two"
    assert any(f"{ALIAS} serves {ALIAS}@2 now, with which it was not compared" in one for one in shop.said())
    assert f"meteor models promote {promotion.model}" in as_markdown(report)


async def test_a_replay_compares_with_the_same_version(shop: Shop):
    """Even if it was replaced, and deleted, since."""
    first, second = shop.versions

    def replaced() -> None:
        shop.catalog.serve(DEFAULT_PROJECT, second)
        shop.catalog.delete_version(DEFAULT_PROJECT, first)
        raise Killed

    shop.at[COMPARES] = replaced
    await shop.killed()
    promotion = (await shop.run()).promotion
    assert (promotion.against, promotion.compared_with) == ("served", f"{ALIAS}@1")
    assert shop.served.id == second.id


async def test_a_job_whose_version_is_served_already_reports_what_it_was_compared_with(shop: Shop):
    def killed() -> None:
        raise Killed

    shop.at[REPORTS] = killed
    await shop.killed()
    own = shop.served
    promotion = (await shop.run()).promotion
    assert (promotion.state, promotion.against, promotion.compared_with) == ("promoted", "served", f"{ALIAS}@1")
    assert shop.served.id == own.id
    assert sum("promoted" in one and "served as" in one for one in shop.said()) == 1


async def test_a_replay_does_not_undo_a_roll_back(shop: Shop):
    def rolled_back() -> None:
        shop.catalog.serve(DEFAULT_PROJECT, shop.versions[0])
        raise Killed

    shop.at[REPORTS] = rolled_back
    await shop.killed()
    assert (await shop.run()).promotion.state == "promoted"
    assert shop.served.id == shop.versions[0].id


async def test_a_job_that_was_compared_with_the_base_stays_so(tmp_path: Path):
    shop = Shop(tmp_path, serves=False)

    def other() -> None:
        shop.catalog.serve(DEFAULT_PROJECT, shop.versions[1])
        raise Killed

    shop.at[REPORTS] = other
    await shop.killed()
    promotion = (await shop.run()).promotion
    assert (promotion.against, promotion.compared_with) == ("base", None)
    assert shop.served.id == shop.versions[1].id
