"""Exports over a tiny adapter: workers that really merge, convert and push, and a published version to export."""

from pathlib import Path
from typing import Any

from services.trainer import tasks
from shared.artifacts.bases import hash_once
from shared.contracts.answer_format import split_answer
from shared.contracts.jobs import JobStatus
from shared.contracts.rows import ParitySample, StudentCompletion
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Method, ModelRef, StepKind, StepRequest, StepResult
from shared.jobs.step_store import Claim
from shared.jobs.tables import DEFAULT_PROJECT
from shared.queue.step_task import StepContext
from tests.fakes.reports import REPORT
from tests.fakes.simulated import BASE, World
from tests.fakes.system import System


class Exporting(World):
    """The trainer's own handlers do what exports ask of it; the engine says what the adapter said, unless it lies."""

    def __init__(self):
        super().__init__(0.3)
        self.system: Any = None
        self.said: dict[str, ParitySample] = {}
        self.lies = False

    async def run(self, job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        if request.kind in (StepKind.MERGE, StepKind.GGUF, StepKind.PUSH):
            claim = Claim(f"step-{str(key).replace('/', '-')}", "j", "p", str(key), request.kind, "h", 1)
            context = StepContext(claim, self.system.settings, self.system.artifacts)
            result = await tasks.HANDLERS[request.kind](request, context)
            self.said |= {row["id"]: ParitySample(**row) for row in result.rows}
            return result
        if str(key) == "compare/served":
            rows = [self._attempt(row["id"]).model_dump(mode="json") for row in request.rows]
            return StepResult(rows=rows)
        return await super().run(job, key, request, limit, on_progress)

    def _attempt(self, question: str) -> StudentCompletion:
        rationale, answer = split_answer("something else" if self.lies else self.said[question].adapter)
        return StudentCompletion(id=question, answer=answer, rationale=rationale, finish_reason="length")


def published(system: System, adapter: Path, base: Path, state: str = "promoted", job: str | None = None) -> str:
    """A version of `expert` whose adapter is the tiny one."""
    digest = system.artifacts.put_folder(adapter)
    system.world.skills[digest] = 0.9
    ref = ModelRef(base=BASE.base, base_hash=hash_once(base)).trained(Method.LORA, digest)
    row = system.stores.catalog.publish(DEFAULT_PROJECT, "expert", ref, job or finished_job(system), state)
    system.stores.catalog.serve(DEFAULT_PROJECT, row)
    return row.id


def finished_job(system: System) -> str:
    """A job that has ended, with a report of the real shape."""
    job = system.post(system.file())
    row = system.stores.jobs.claim("o", 60)
    assert row is not None
    interval = [0.5, 0.25, 0.75]
    table = [
        {
            "name": n,
            "adapter": None,
            "n": 20,
            "metrics": {"string_check": interval},
            "gain_over_base": [0.25, -0.125, 0.5],
        }
        for n in ("base", "final")
    ]
    no_gain = {"beats_base": False, "beaten": [], "not_beaten": []}
    report = REPORT | {
        "primary_metric": "string_check",
        "verdict": no_gain
        | {"words": "The final model is not told apart from the base on the test split: no gain is shown."},
        "table": table,
        "decisions": [{"phase": "distill", "decision": "undecided", "gain_on_dev": [0.1, -0.2, 0.4]}],
        "warnings": ["few questions"],
    }
    system.stores.jobs.end(row, JobStatus.SUCCEEDED, report_ref=system.artifacts.put_json(report))
    return job
