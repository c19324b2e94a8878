"""What is measured over whole jobs: the same seed repeats it all. Real orchestration, pretended workers."""

from pathlib import Path
from typing import Any

from shared.contracts.steps import StepRequest, StepResult, content_hash
from tests.fakes.simulated import Simulation, World, questions

EVERYTHING: dict[str, Any] = {
    "guidance": "auto",
    "pilot": {"questions": 8},
    "iterate": {"rounds": 2, "tries": 2, "on_failure": "teacher"},
    "evolve": {"turns": 2, "strategy": "best_of_n"},
    "evaluation": {
        "shot_seeds": 2,
        "judged_questions": 20,
        "dev_questions": 30,
        "test_questions": 30,
        "forgetting": 16,
    },
}


class Recording(World):
    """Keeps each step's identity: what a worker would be asked."""

    def __init__(self, base_skill: float = 0.4):
        super().__init__(base_skill, train=lambda request, before: min(1.0, before + 0.2))
        self.asked: dict[str, str] = {}

    async def run(self, job: Any, key: str, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        self.asked[key] = content_hash(request.model_dump(mode="json"))
        return await super().run(job, key, request, limit, on_progress)


async def test_the_same_seed_asks_the_same_and_reports_the_same(tmp_path: Path):
    """Every step, trainings included, has the same identity, whatever the order of the file's rows."""

    async def once(folder: str, seed: int, order: int = 1) -> tuple[dict[str, str], dict[str, Any]]:
        world = Recording()
        report = await Simulation(tmp_path / folder).job(world, questions()[::order], seed=seed, **EVERYTHING)
        apart = ("job", "timings")  # a job's own name, and the clock
        return world.asked, {name: value for name, value in report.items() if name not in apart}

    asked, report = await once("first", 1)
    assert {key.partition("/")[0] for key in asked} == {"pilot", "distill", "iterate", "evolve", "evaluate"}
    assert await once("second", 1, order=-1) == (asked, report)
    other, other_report = await once("third", 2)
    assert not set(asked.values()) & set(other.values()), "with another seed no step is the same"
    assert other_report["table"] != report["table"]
