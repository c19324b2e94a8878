"""Reinforcement by OpenAI's own words, from its post to its end: a whole system with the real graders, and without a teacher."""

from pathlib import Path
from typing import Any

import pytest

from services.api.features.jobs import service as jobs
from services.api.features.jobs.fine_tuning import checks_of
from services.judge.grade import grade
from services.orchestrator import scheduler
from shared.contracts.fine_tuning import FineTuningRequest
from shared.contracts.jobs import JobRequest
from shared.contracts.rows import JudgeInput
from shared.contracts.step_key import StepKey
from shared.contracts.steps import JudgeParams, StepKind, StepRequest, StepResult
from shared.grading.graders import Graders
from tests.fakes.simulated import BASE, World, questions
from tests.fakes.store_moves import processed_file
from tests.fakes.system import System


class Graded(World):
    """Grades by the real graders."""

    async def run(self, job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        if request.kind is not StepKind.GRADE:
            return await super().run(job, key, request, limit, on_progress)
        params = JudgeParams.model_validate(request.params)
        with Graders(params.verify) as graders:
            rows = [JudgeInput.model_validate(row) for row in request.rows]
            grades, counts = await grade(graders, rows, lambda done, total: None)
        return StepResult(rows=[row.model_dump(mode="json") for row in grades], metrics=counts)


async def test_reinforcement_learns_from_the_rewards_of_rows_that_have_no_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scheduler, "LOOK_S", 0.02)
    world = Graded(0.3, train=lambda request, before: min(0.95, before + 0.4))
    system = System(tmp_path, monkeypatch, world)
    rows = [
        row.model_copy(update={"reference": None, "item": {"expected": f"right {row.id}", "level": n}})
        for n, row in enumerate(questions(train=60, dev=40, test=40))
    ]
    file = processed_file(system.stores, system.artifacts, rows)
    fields = {"input": "{{sample.output_text}}", "reference": "{{item.expected}}"}
    parts = {
        "right": {"type": "string_check", "name": "right", "operation": "eq"} | fields,
        "near": {"type": "text_similarity", "name": "near", "evaluation_metric": "fuzzy_match"} | fields,
    }
    grader = {"type": "multi", "name": "reward", "graders": parts, "calculate_output": "0.9 * right + 0.1 * near"}
    hyper = {"compute_multiplier": 0.5, "batch_size": 4}
    method: Any = {"type": "reinforcement", "reinforcement": {"grader": grader, "hyperparameters": hyper}}
    request = FineTuningRequest(model=BASE.base, training_file=file, method=method)
    async with system.running():
        job = jobs.create(system.context, request.job(), more=[checks_of(request)])
        await system.until(job.id, "succeeded")
    read = jobs.lifecycle.get(system.context, job.id)
    assert read.method is not None
    assert read.method["reinforcement"]["hyperparameters"]["compute_multiplier"] == 0.5
    assert read.method["reinforcement"]["grader"]["calculate_output"] == grader["calculate_output"]
    assert read.fine_tuned_model == "expert@1"
    assert system.calls(job.id) == 0
    ran = {step.kind for step in system.stores.steps.of_job(job.id)}
    asking = {StepKind.TEACH, StepKind.REVIEW, StepKind.COMPARE, StepKind.RATE}
    assert not ran & asking
    report = system.report(job.id)
    assert report["primary_metric"] == "multi"
    (first,) = report["phases"]["iterate"]["rounds"]
    assert first["sampled"]["samples"] == 4
    # wrong answers have a small reward too
    assert first["sampled"]["pass_at"]["1"] < first["sampled"]["reward"] < first["sampled"]["pass_at"]["1"] + 0.1
    assert report["phases"]["evolve"]["turns"][0]["pairs"] > 0
    assert [decision["decision"] for decision in report["decisions"]] == ["promoted", "promoted"]
    learned = [step for step in system.stores.steps.of_job(job.id) if step.key == "iterate/1/train"]
    trained = StepRequest.model_validate(system.artifacts.get_json(learned[0].input_hash))
    assert trained.params["batch_size"] == 4
    assert all(row["completion"].startswith("right ") for row in trained.rows), "what passes is what is learned"
    again = jobs.create(system.context, JobRequest.model_validate(read.model_dump(mode="json")))
    assert again.method == read.method
