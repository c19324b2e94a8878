"""A job that goes on from a version: it trains that version further, and both stay in the lineage."""

from pathlib import Path
from typing import Any

import pytest

from services.api.features.jobs import service as jobs
from services.api.features.models import service as models
from services.orchestrator import scheduler
from shared.contracts.errors import Conflict, UserError
from shared.contracts.jobs import JobRequest
from shared.contracts.steps import Method
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.simulated import BASE
from tests.fakes.system import System

PHASES: dict[str, Any] = {"phases": ["distill"], "judge": {"labels": 0}, "adapter": {"rank": 4, "alpha": 8}}


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    return System(tmp_path, monkeypatch)


def go_on(system: System, model: str, file: str, **spec: Any) -> Any:
    evaluation = {"baselines": [], "forgetting": 0}
    distillation = {"domain": "d", "primary_metric": "string_check", "guidance": "none", "evaluation": evaluation}
    body = {"model": model, "training_file": file, "suffix": "further", "distillation": distillation | spec}
    return jobs.create(system.context, JobRequest.model_validate(body))


async def test_a_job_goes_on_from_a_version_and_the_lineage_keeps_both(system: System):
    async with system.running():
        first = system.post(system.file(), **PHASES)
        version = (await system.until(first, "succeeded")).fine_tuned_model
        assert version == "expert@1"
        second = go_on(system, "expert", system.file(train=50), phases=["distill"])  # an alias is pinned
        assert second.model == "expert@1"
        assert (second.distillation.adapter.rank, second.distillation.adapter.alpha) == (4, 8), "as it was trained"
        with pytest.raises(Conflict, match=f"job {second.id} needs it"):
            models.delete(system.context, "expert")
        row = await system.until(second.id, "succeeded")
    before = system.stores.catalog.resolve(DEFAULT_PROJECT, "expert@1")
    steps = {step.key: step for step in system.stores.steps.of_job(second.id)}
    training = system.artifacts.get_json(steps["distill/train"].input_hash)["params"]
    assert (training["model"]["base"], training["model"]["adapter"]) == (BASE.base, before.adapter)
    asked = system.artifacts.get_json(steps["evaluate/dev/base/answers/0"].input_hash)["params"]
    assert asked["model"]["adapter"] == before.adapter, "what it is compared with is the version that it came from"
    assert row.fine_tuned_model == "further@1"
    shown = models.get(system.context, "further@1")
    assert (shown.parent, shown.continues) == (BASE.base, "expert@1")
    assert models.get(system.context, "expert@1").continues is None
    messages = [event.message for event in system.stores.jobs.events(second.id)]
    assert any("goes on from expert@1" in message for message in messages)


def published(system: System, **changes: Any) -> str:
    file = system.file()
    job = system.post(file, **PHASES)
    record = system.row(job)
    system.stores.jobs.cancel(record)
    ref = BASE.model_copy(update={"base_hash": "b" * 64} | changes).trained(Method.LORA, "a" * 64)
    return f"expert@{system.stores.catalog.publish(DEFAULT_PROJECT, 'expert', ref, job, 'undecided').version}"


@pytest.mark.parametrize(
    ("model", "spec", "code", "param"),
    [
        ("nobody@1", {}, "model_not_found", "model"),
        ("expert@9", {}, "model_not_found", "model"),
        ("expert@1", {"adapter": {"rank": 8}}, "adapter_differs", "distillation.adapter.rank"),
        ("expert@1", {"adapter": {"method": "full"}}, "adapter_differs", "distillation.adapter.method"),
    ],
)
def test_what_cannot_go_on_is_refused(system: System, model: str, spec: dict[str, Any], code: str, param: str):
    published(system)
    with pytest.raises(UserError) as refused:
        go_on(system, model, system.file(), **spec)
    assert (refused.value.code, refused.value.param) == (code, param)


def test_a_base_that_is_gone_is_named(system: System):
    version = published(system, base="gone")
    with pytest.raises(UserError, match=r"trained on 'gone', which is no student here") as refused:
        go_on(system, version, system.file())
    assert refused.value.code == "base_not_served"
