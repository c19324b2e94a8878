"""Forks and repeated jobs: what was done is taken over, and nothing is paid for twice."""

from pathlib import Path
from typing import Any

import pytest

from services.api.features.jobs import forks
from services.orchestrator import scheduler
from shared.contracts.errors import Conflict, UserError
from shared.contracts.jobs import ForkRequest
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.system import System

ASKED_ALWAYS: dict[str, Any] = {"judge": {"labels": 0}, "iterate": {"rounds": 1, "tries": 2}}


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    return System(tmp_path, monkeypatch)


def fork(system: System, job: str, point: dict[str, Any] | None = None, **changes: Any) -> Any:
    request = ForkRequest.model_validate({"changes": changes} | ({"from": point} if point else {}))
    return forks.fork(system.context, job, request)


def belongs_to(key: str, *prefixes: str) -> bool:
    return key.startswith(prefixes)


async def test_the_same_job_posted_twice_asks_nobody_for_anything(system: System):
    file = system.file()
    async with system.running():
        first = system.post(file, **ASKED_ALWAYS)
        await system.until(first, "succeeded")
        assert system.calls(first) > 20
        again = system.post(file, **ASKED_ALWAYS)
        await system.until(again, "succeeded")
    # the alias serves the first job's student by now: it is what the second is held against, and is the same one
    assert system.ran[again] == []
    assert system.ledger.usage(again).model_dump() == dict.fromkeys(system.ledger.usage(again).model_dump(), 0)
    rows = system.stores.steps.of_job(again)
    assert rows
    assert all(row.reused_from and row.attempt == 0 for row in rows)
    origins = system.stores.steps.jobs_of(row.reused_from for row in rows if row.reused_from)
    assert set(origins.values()) == {first}
    one, other = system.report(first), system.report(again)
    for report in (one, other):
        del report["phases"]["pilot"]["estimate"]  # made of what the job's own pilot paid for: nothing, the second time
    for name in ("table", "final", "decisions", "phases", "judged", "power", "samples"):
        assert one[name] == other[name], name


async def test_a_fork_from_a_round_pays_only_for_what_comes_after(system: System):
    file = system.file(train=60)
    async with system.running():
        origin = system.post(file, **ASKED_ALWAYS)
        await system.until(origin, "succeeded")
        made = fork(system, origin, {"phase": "iterate", "round": 1}, distillation={"iterate": {"rounds": 3}})
        await system.until(made.id, "succeeded")
    assert made.distillation.forked_from is not None
    assert made.distillation.forked_from.model_dump() == {"job_id": origin, "phase": "iterate", "round": 1}
    before = (
        "pilot/",
        "distill/",
        "iterate/1/",
        "evaluate/dev/base/",
        "evaluate/dev/distill/",
        "evaluate/dev/iterate-0/",
    )
    assert not [key for key in system.ran[made.id] if belongs_to(key, *before)]
    assert any(belongs_to(key, "iterate/2/") for key in system.ran[made.id])
    had = {row.key: row.input_hash for row in system.stores.steps.of_job(origin) if belongs_to(row.key, *before)}
    has = {row.key: row.input_hash for row in system.stores.steps.of_job(made.id) if belongs_to(row.key, *before)}
    assert had.items() <= has.items(), "what came before is not what it was"
    by_phase = system.ledger.usage_by_phase(made.id)
    assert set(by_phase) == {"iterate"}
    assert by_phase["iterate"].teacher_calls > 0
    assert len(system.report(made.id)["phases"]["iterate"]["rounds"]) >= 2


async def test_a_fork_from_a_phase_keeps_its_questions_whatever_comes_after(system: System):
    """Without the pinned numbers a job without phase 3 would give phase 1 other questions."""
    file = system.file(train=60)
    async with system.running():
        origin = system.post(file, **ASKED_ALWAYS)
        await system.until(origin, "succeeded")
        changes = {"phases": ["distill", "iterate"], "iterate": {"tries": 3, "learning_rate": 5e-5}}
        made = fork(system, origin, {"phase": "distill"}, distillation=changes)
        await system.until(made.id, "succeeded")
        loose = fork(system, origin, distillation={"phases": ["distill", "iterate"]})
        await system.until(loose.id, "succeeded")
    assert not [key for key in system.ran[made.id] if belongs_to(key, "pilot/", "distill/")]
    assert any(key == "iterate/1/train" for key in system.ran[made.id])
    assert any(key == "distill/train" for key in system.ran[loose.id])


async def test_a_fork_of_a_fork_and_one_with_another_last_phase(system: System):
    file = system.file(train=60)
    async with system.running():
        origin = system.post(file, **ASKED_ALWAYS)
        await system.until(origin, "succeeded")
        second = fork(system, origin, {"phase": "iterate"}, distillation={"evolve": {"beam_width": 4}})
        await system.until(second.id, "succeeded")
        changes = {"rounds": 2, "questions": 24}
        third = fork(system, second.id, {"phase": "iterate", "round": 1}, distillation={"iterate": changes})
        await system.until(third.id, "succeeded")
    assert system.calls(second.id) == 0
    ran = [key for key in system.ran[second.id] if not belongs_to(key, "evaluate/")]
    assert ran == ["evolve/1/search"], "it finds the same pairs here, so that their training is taken over too"
    assert third.distillation.forked_from is not None
    assert third.distillation.forked_from.job_id == second.id
    assert not [key for key in system.ran[third.id] if belongs_to(key, "pilot/", "distill/", "iterate/1/")]


@pytest.mark.parametrize(
    ("point", "changes", "param", "code"),
    [
        ({"phase": "iterate"}, {"distillation": {"distill": {"epochs": 1}}}, "changes.distillation.distill", "before_the_fork"),
        ({"phase": "iterate", "round": 1}, {"distillation": {"iterate": {"tries": 1}}}, "changes.distillation.iterate.tries", "before_the_fork"),
        ({"phase": "evolve"}, {"distillation": {"evolve": {"turns": 2}}}, "changes.distillation.evolve", "before_the_fork"),
        ({"phase": "distill"}, {"seed": 3}, "changes.seed", "before_the_fork"),
        ({"phase": "iterate"}, {"distillation": {"phases": ["iterate"]}}, "changes.distillation.phases", "before_the_fork"),
        ({"phase": "iterate", "round": 1}, {"distillation": {"iterate": {"rounds": 3, "questions": 12}}}, "changes.distillation.iterate.questions", "too_few_rows"),
        ({"phase": "iterate", "round": 2}, {}, "from", "not_finished"),
        (None, {"distillation": {"iterate": {"rounds": 0}}}, "distillation.iterate.rounds", "invalid_value"),
        (None, {"distillation": {"loud": 1}}, "distillation.loud", "unknown_parameter"),
        (None, {"metadata": 3}, "metadata", "invalid_value"),
    ],
)  # fmt: skip
async def test_a_fork_that_cannot_be_says_why(system: System, point: Any, changes: Any, param: str, code: str):
    origin = system.post(system.file(train=40), **ASKED_ALWAYS)
    row: Any = system.stores.jobs.get(origin)
    for key in ("evaluate/dev/distill/answers/0", "iterate/1/train", "evaluate/dev/iterate/a", "evaluate/dev/evolve/a"):
        _done(system, row, key)
    with pytest.raises((UserError, Conflict)) as error:
        fork(system, origin, point, **changes)
    assert (error.value.param, error.value.code) == (param, code)
    assert len(system.stores.jobs.page(DEFAULT_PROJECT, None, 10)[0]) == 1, "it was queued all the same"


def _done(system: System, job: Any, key: str) -> None:
    step = system.stores.steps.create(job, StepKey.parse(key), StepKind.ANSWER, key.encode().hex().ljust(64, "0")[:64])
    claim = system.stores.steps.claim(step.id, "w", 60)
    assert claim is not None
    system.stores.steps.finish(claim, "f" * 64, {})


def test_a_fork_leaves_the_experiment_and_the_methods_own_rates(system: System):
    origin = system.post(system.file(), pause_after="pilot")
    made = fork(system, origin, metadata={"mine": "1"}, distillation={"adapter": {"method": "lora", "rank": 8}})
    assert made.metadata == {"mine": "1"}
    assert made.distillation.pause_after == "pilot"
    assert made.distillation.adapter.rank == 8
    event = system.stores.jobs.events(made.id)[0]
    assert event.message == f"job forked from {origin} and queued"
