"""What simulated jobs really ask of strong models lies within what was estimated for them."""

from pathlib import Path
from typing import Any

import pytest

from shared.contracts.data import Split
from shared.contracts.distillation import Distillation
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind, StepRequest, StepResult
from shared.plan.allocation import allocate
from shared.plan.estimate import Work, estimate, sizes
from tests.fakes.simulated import Simulation, World, questions


class Counting(World):
    """Counts calls as the gateway would: equal requests to the teacher once, a comparison in both orders."""

    def __init__(self, skill: float, **more: Any):
        super().__init__(skill, **more)
        self.asked: dict[str, int] = {}
        self.seen: set[str] = set()

    async def run(self, job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        result = await super().run(job, key, request, limit, on_progress)
        phase = key.phase
        if request.kind is StepKind.TEACH:
            new = {repr(row) for row in request.rows} - self.seen
            self.seen |= new
            self.asked[phase] = self.asked.get(phase, 0) + len(new)
        if request.kind is StepKind.COMPARE:
            self.asked[phase] = self.asked.get(phase, 0) + 2 * len(request.rows)
        if request.kind is StepKind.RATE:
            self.asked[phase] = self.asked.get(phase, 0) + len(request.rows)
        if request.kind is StepKind.REVIEW:
            pairs = zip(request.rows, result.rows, strict=True)
            graded = request.params["grader"] is not None
            self.asked[phase] = self.asked.get(phase, 0) + sum(
                (not verdict["passed"] and row["want_critique"]) if graded and row["reference"] else 1
                for row, verdict in pairs
            )
        return result


@pytest.mark.parametrize("skill", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(
    "spec",
    [
        {"guidance": "auto", "judge": {"grader": "string_check"}},
        {"guidance": "best", "iterate": {"rounds": 3, "on_failure": "teacher"}},
        {"guidance": "weak", "evaluation": {"judged_questions": 20}, "batch_size": 8},
        {"guidance": "none", "phases": ["distill"], "pilot": {"questions": 64}},
    ],
)
@pytest.mark.parametrize(("references", "measured_by_references"), [(True, True), (False, True), (False, False)])
async def test_the_calls_of_a_job_lie_within_its_estimate(
    tmp_path: Path, spec: dict[str, Any], references: bool, measured_by_references: bool, skill: float
):
    world = Counting(skill, train=lambda request, before: min(1.0, before + 0.2))
    world.teacher = lambda row: (row["reference"] or row["id"], "ok")
    world.judge = lambda a, b: "A" if a.startswith("right") else "B"
    rows = questions(48, 20, 20, references, measured_by_references)
    made = Distillation.model_validate({"domain": "d", "primary_metric": "string_check"} | spec)
    train = sizes(row for row in rows if row.split == Split.TRAIN)
    counts = allocate(len(train), made)
    dev, test = (sizes(row for row in rows if row.split == split) for split in (Split.DEV, Split.TEST))
    by_judge = not measured_by_references
    estimated = estimate(made, Work(dict.fromkeys(counts, train), counts, dev, test, by_judge), {})
    await Simulation(tmp_path).job(world, rows, **spec)
    for phase, asked in world.asked.items():
        span = estimated.phases[phase].calls
        assert asked <= span.high, phase
        # a final model that is the base again is not judged; all else is asked at least as often as `low` says
        assert span.low <= asked or phase == "evaluate", phase
    assert set(world.asked) <= set(estimated.phases)
