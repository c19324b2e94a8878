"""A real orchestrator whose distillation jobs only ask the teacher all their questions: `python -m tests.bench.generation_orchestrator`.

Everything but the method is as in a deployment: leases, durable steps, messages, the reaper, the ledger. The report of a job that
succeeds is its dataset, a list of {id, question, answer}.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from services.orchestrator import main as orchestrator
from services.orchestrator.jobs.kinds import KINDS, Dependencies, Kind
from services.orchestrator.method.run import DistillationRun
from shared.contracts.data import Question, Split
from shared.contracts.jobs import JobKind
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef
from shared.datasets.files import data_of
from shared.jobs.records import JobRecord


async def _open(dependencies: Dependencies, row: JobRecord) -> DistillationRun:
    stores, artifacts = dependencies.steps.stores, dependencies.steps.artifacts
    data = data_of(row, lambda file_id: stores.catalog.file(row.project_id, file_id))
    rows = data.rows(artifacts, stores.catalog)
    base = ModelRef(base="bench", base_hash="0")
    return await asyncio.to_thread(DistillationRun, row, base, rows, dependencies.steps, dependencies.ledger)


async def _ask_all(run: DistillationRun) -> dict[str, Any]:
    context = run.context
    await run.enter("distill")

    async def answered(index: int, batch: Sequence[Question]) -> list[dict[str, str]]:
        responses = await context.teacher.respond_once(StepKey("distill", batch=index), batch)
        by_id = {question.id: question.question for question in batch}
        return [{"id": one.id, "question": by_id[one.id], "answer": one.answer} for one in responses]

    parts = await context.gather(answered, [*context.splits[Split.TRAIN]])
    return {"report_ref": run.artifacts.put_json([row for part in parts for row in part])}


KINDS[JobKind.DISTILLATION] = Kind(_open, _ask_all)

if __name__ == "__main__":
    orchestrator.main()
