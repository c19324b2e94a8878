"""A student that nobody tried before the job was posted is tried by the job's first step, before a teacher is paid."""

from pathlib import Path

import pytest

from shared.artifacts.capabilities import folder_of, keep
from shared.contracts.capabilities import Ability, Capabilities
from shared.contracts.steps import StepKind, StepRequest, StepResult
from tests.fakes.simulated import BASE, World
from tests.fakes.system import System
from tests.fakes.tiny_model import write_tokenizer

YES = Ability(ok=True)
NO = Ability(ok=False, reason="its states cannot be trained", remedy="take another student")


def capabilities(train: Ability) -> Capabilities:
    able = dict.fromkeys(("load", "train_full", "dpo", "search", "serve"), YES) | {"train_lora": train}
    return Capabilities.model_validate(
        {"base": BASE.base, "identity": "0", "model_type": "x", "architecture": "X"} | able
    )


class Trying(World):
    """A trainer that finds the student as `tried` says."""

    tried = capabilities(NO)

    async def run(self, job, key, request: StepRequest, limit, on_progress) -> StepResult:
        if request.kind is StepKind.PROBE:
            return StepResult(metrics=self.tried.model_dump(mode="json"))
        return await super().run(job, key, request, limit, on_progress)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    folder = tmp_path / "student"
    folder.mkdir()
    write_tokenizer(folder)
    monkeypatch.setenv("METEOR_STUDENT_PATH", str(folder))
    return System(tmp_path, monkeypatch, Trying(0.3, train=lambda request, before: 0.9))


async def test_an_unfit_student_ends_the_job_with_the_code_of_posting_before_anything_is_paid(system: System):
    job = system.post(system.file())
    async with system.running():
        ended = await system.until(job, "failed")
    assert ended.error is not None
    assert (ended.error.code, ended.error.param) == ("student_unfit", "distillation.adapter.method")
    assert "its states cannot be trained" in ended.error.message
    assert system.ran[job] == ["prepare/probe"]
    assert system.calls(job) == 0


@pytest.mark.parametrize("tried", [True, False])
async def test_a_fit_student_is_tried_once_and_the_job_goes_on(system: System, tried: bool):
    assert isinstance(system.world, Trying)
    system.world.tried = capabilities(YES)
    if tried:
        keep(folder_of(system.settings.data), capabilities(YES))
    job = system.post(system.file())
    async with system.running():
        await system.until(job, "succeeded")
    assert system.ran[job].count("prepare/probe") == (0 if tried else 1)
