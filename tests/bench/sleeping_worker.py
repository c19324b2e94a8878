"""A real worker whose models only take time: `python -m tests.bench.sleeping_worker QUEUE SECONDS`."""

import asyncio
import sys

from shared.contracts.rows import Guideline, TeacherResponse
from shared.contracts.steps import Queue, StepKind, StepRequest, StepResult
from shared.queue.step_task import StepContext, serve_queue

SECONDS = float(sys.argv[2])


async def guide(request: StepRequest, context: StepContext) -> StepResult:
    await asyncio.sleep(SECONDS)
    return StepResult(
        rows=[Guideline(id=r["id"], guideline="g", finish_reason="stop").model_dump() for r in request.rows]
    )


async def teach(request: StepRequest, context: StepContext) -> StepResult:
    await asyncio.sleep(SECONDS)
    lessons = [TeacherResponse(id=r["id"], answer="a", finish_reason="stop", outcome="ok") for r in request.rows]
    return StepResult(rows=[lesson.model_dump() for lesson in lessons])


async def train(request: StepRequest, context: StepContext) -> StepResult:
    return StepResult(adapter="0" * 64)


if __name__ == "__main__":
    handlers = {StepKind.GUIDE: guide, StepKind.TEACH: teach, StepKind.SFT: train}
    serve_queue("bench", Queue(sys.argv[1]), handlers, slots=1)
