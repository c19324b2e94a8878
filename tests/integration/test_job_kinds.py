"""Jobs of another kind than distillations: the same steps, pauses, cancels, budgets and ends, and lists of their own."""

from pathlib import Path
from typing import Any

import pytest

from services.api.features.jobs import service as api_jobs
from services.orchestrator.jobs.kinds import KINDS, Dependencies, Kind
from services.orchestrator.runtime.run import DurableRun
from shared.contracts.distillation import Budget
from shared.contracts.errors import FatalError, NotFound
from shared.contracts.jobs import AnyRequest, JobKind
from shared.contracts.steps import Sampling, StepKind, TeachParams
from shared.jobs.schema import Stores
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.simulated import questions
from tests.fakes.system import System

TEACH = TeachParams(teacher="default", domain="d", sampling=Sampling())


class Asking(AnyRequest):
    """Ask the teacher so many questions."""

    kind = JobKind.IMPORT
    asked: int
    budget: Budget = Budget()


async def open_asking(dependencies: Dependencies, row: Any) -> DurableRun:
    return DurableRun(row, dependencies.steps, dependencies.ledger, plan={("asking", StepKind.TEACH): 2}, batch_size=2)


async def ask(run: DurableRun) -> dict[str, Any]:
    await run.enter("asking")
    rows = questions(train=Asking.model_validate(run.job.request).asked, dev=0, test=0)

    async def one(index: int, batch) -> int:
        return len((await run.step(f"ask/{index}", StepKind.TEACH, TEACH, batch)).rows)

    return {"result": {"answers": sum(await run.gather(one, rows))}}


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setitem(KINDS, JobKind.IMPORT, Kind(open_asking, ask))
    return System(tmp_path, monkeypatch)


async def test_a_job_of_another_kind_runs_over_durable_steps_and_keeps_its_result(system: System):
    job = system.stores.jobs.create(DEFAULT_PROJECT, Asking(asked=5))
    assert (job.kind, job.file_id, job.id[:7]) == ("import", None, "import-")
    async with system.running():
        ended = await system.until(job.id, "succeeded")
    assert ended.result == {"answers": 5}
    assert ended.progress.percent == 100
    assert sorted(system.ran[job.id]) == ["ask/0", "ask/1", "ask/2"]
    assert system.calls(job.id) == 5, "the ledger knows whose calls they were"
    messages = [event.message for event in system.stores.jobs.events(job.id)]
    assert "phase asking begins" in messages


async def test_it_pauses_and_goes_on_and_is_cancelled(system: System):
    system.seconds = lambda request: 0.3
    job = system.stores.jobs.create(DEFAULT_PROJECT, Asking(asked=12))
    async with system.running():
        await system.until_ran(job.id, 1)
        system.stores.jobs.pause(system.row(job.id))
        paused = await system.until(job.id, "paused")
        system.stores.jobs.resume(paused)
        await system.until(job.id, "running")
        system.stores.jobs.cancel(system.row(job.id))
        await system.until(job.id, "cancelled")
    assert system.row(job.id).result is None


async def test_a_failure_says_what_a_job_of_this_kind_can_do_about_it(system: System):
    system.fails = lambda key: FatalError("no such passage") if key == "ask/1" else None
    system.seconds = lambda request: 0.2 if request.rows[0]["id"] == "train-2" else 0.0
    job = system.stores.jobs.create(DEFAULT_PROJECT, Asking(asked=4))
    async with system.running():
        failed = await system.until(job.id, "failed")
    assert failed.error.message == "step ask/1: no such passage"
    assert "taken over by the same job posted again" in failed.status_reason
    assert "fork" not in failed.status_reason


async def test_its_budget_is_in_force_before_its_first_step(system: System):
    job = system.stores.jobs.create(DEFAULT_PROJECT, Asking(asked=1, budget=Budget(max_calls=7)))
    limits = []

    def look(key: str) -> None:
        account = system.ledger.account(job.id)
        limits.append(account and account.max_calls)

    system.fails = look
    async with system.running():
        await system.until(job.id, "succeeded")
    assert limits == [7]


def test_a_job_over_its_budget_pauses_or_fails_as_its_own_request_says(stores: Stores):
    pausing, failing = (
        stores.jobs.create(DEFAULT_PROJECT, Asking(asked=1, budget=Budget.model_validate({"on_exceed": word})))
        for word in ("pause", "fail")
    )
    for _ in range(2):
        stores.jobs.claim("o", 60)
    assert stores.jobs.pause_over_budget(pausing.id, "spent")
    assert not stores.jobs.pause_over_budget(failing.id, "spent")
    changed = stores.jobs.change(pausing, Budget(max_usd=3), None)
    assert changed.request == {"asked": 1, "budget": Budget(max_usd=3).model_dump(mode="json")}


def test_each_kind_has_a_list_of_its_own_and_is_absent_from_the_others(stores: Stores, new_job):
    distillation, other = new_job(stores), stores.jobs.create(DEFAULT_PROJECT, Asking(asked=1))
    assert (distillation.file_id, other.file_id) == (distillation.request["training_file"], None)
    assert [row.id for row in stores.jobs.page(DEFAULT_PROJECT, None, 9)[0]] == [distillation.id]
    assert [row.id for row in stores.jobs.page(DEFAULT_PROJECT, None, 9, kind=JobKind.IMPORT)[0]] == [other.id]
    assert stores.jobs.get(other.id, DEFAULT_PROJECT, JobKind.DISTILLATION) is None
    assert stores.jobs.get(other.id, DEFAULT_PROJECT, JobKind.IMPORT) is not None


def test_the_routes_of_distillations_know_no_import(system: System):
    job = system.stores.jobs.create(DEFAULT_PROJECT, Asking(asked=1))
    with pytest.raises(NotFound):
        api_jobs.lifecycle.cancel(system.context, job.id)
