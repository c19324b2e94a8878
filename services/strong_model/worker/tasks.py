"""The `strong` queue: steps that call strong models through the gateway, and steps that read an import's source."""

import asyncio
import threading

from services.strong_model.settings import strong_settings
from services.strong_model.worker import questions
from services.strong_model.worker import teach as teaching
from services.strong_model.worker.imports import read_source
from shared.contracts.errors import Cancelled
from shared.contracts.imports import AskParams, Passage, ReadParams
from shared.contracts.rows import TeacherInput
from shared.contracts.steps import StepKind, StepRequest, StepResult, TeachParams
from shared.queue.step_gateway import step_gateway
from shared.queue.step_task import StepContext


async def teach(request: StepRequest, context: StepContext) -> StepResult:
    params = TeachParams.model_validate(request.params)
    rows = [TeacherInput.model_validate(row) for row in request.rows]
    async with step_gateway(context, strong_settings().gateway_url, batch=params.batch) as gateway:
        responses, metrics = await teaching.teach(gateway, params, rows, context.progress)
    return StepResult(rows=[item.model_dump(mode="json") for item in responses], metrics=metrics)


async def ask(request: StepRequest, context: StepContext) -> StepResult:
    params = AskParams.model_validate(request.params)
    rows = [Passage.model_validate(row) for row in request.rows]
    async with step_gateway(context, strong_settings().gateway_url) as gateway:
        written, metrics = await questions.write_questions(gateway, params, rows, context.progress)
    return StepResult(rows=[item.model_dump(mode="json") for item in written], metrics=metrics)


async def read(request: StepRequest, context: StepContext) -> StepResult:
    """In a thread. When the step is stopped the thread ends at its next report of progress: after some hundred rows, or one
    file of the hub."""
    params = ReadParams.model_validate(request.params)
    stopped = threading.Event()

    def on_progress(done: int, total: int) -> None:
        if stopped.is_set():
            raise Cancelled("the import was stopped")
        context.progress(done, total)

    try:
        rows, left_out = await asyncio.to_thread(read_source, params, context.settings.data / "files", on_progress)
    finally:
        stopped.set()
    return StepResult(rows=rows, metrics={"left_out": left_out})


HANDLERS = {StepKind.TEACH: teach, StepKind.ASK: ask, StepKind.READ: read}
