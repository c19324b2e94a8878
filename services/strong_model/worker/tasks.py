"""The `strong` queue: steps that call strong models through the gateway, and steps that read an import's source."""

import asyncio
import threading

from services.strong_model.settings import strong_settings
from services.strong_model.worker import proposals, questions
from services.strong_model.worker import teach as teaching
from services.strong_model.worker.complete import complete
from services.strong_model.worker.imports import read_source
from shared.artifacts import material
from shared.artifacts.opening import open_uploads
from shared.contracts.coverage import Proposal, ProposeParams
from shared.contracts.errors import Cancelled
from shared.contracts.eval_results import CompleteParams
from shared.contracts.imports import AskParams, Passage, ReadParams
from shared.contracts.rows import StudentPrompt, TeacherInput
from shared.contracts.steps import StepKind, StepResult, TeachParams, Wire
from shared.queue.step_gateway import step_gateway
from shared.queue.step_handler import RowsAndMetrics, by_kind, step_handler
from shared.queue.step_task import StepContext


@step_handler(StepKind.TEACH)
async def teach(params: TeachParams, rows: list[TeacherInput], context: StepContext) -> RowsAndMetrics:
    async with step_gateway(context, strong_settings().gateway_url, batch=params.batch) as gateway:
        shown = material.read(context.artifacts, params.material)
        responses, counts = await teaching.teach(gateway, params, rows, context.progress, shown)
        return responses, counts | gateway.refusals()


@step_handler(StepKind.ASK)
async def ask(params: AskParams, rows: list[Passage], context: StepContext) -> RowsAndMetrics:
    async with step_gateway(context, strong_settings().gateway_url) as gateway:
        written, counts = await questions.write_questions(gateway, params, rows, context.progress)
        return written, counts | gateway.refusals()


@step_handler(StepKind.PROPOSE)
async def propose(params: ProposeParams, rows: list[Proposal], context: StepContext) -> RowsAndMetrics:
    async with step_gateway(context, strong_settings().gateway_url) as gateway:
        made, counts = await proposals.propose(gateway, params, rows, context.progress)
        return made, counts | gateway.refusals()


@step_handler(StepKind.COMPLETE)
async def complete_rows(params: CompleteParams, rows: list[StudentPrompt], context: StepContext) -> RowsAndMetrics:
    async with step_gateway(context, strong_settings().gateway_url, param="data_source.model") as gateway:
        answers, counts = await complete(gateway, params, rows, context.progress)
        return answers, counts | gateway.refusals()


@step_handler(StepKind.READ)
async def read(params: ReadParams, _rows: list[Wire], context: StepContext) -> StepResult:
    """In a thread. When the step is stopped the thread ends at its next report of progress: after some hundred rows, or one
    file of the hub."""
    stopped = threading.Event()

    def on_progress(done: int, total: int) -> None:
        if stopped.is_set():
            raise Cancelled("the import was stopped")
        context.progress(done, total)

    try:
        rows, left_out, masked = await asyncio.to_thread(
            read_source, params, open_uploads(context.settings), on_progress
        )
    finally:
        stopped.set()
    return StepResult(rows=rows, metrics={"left_out": left_out} | ({"masked": masked} if params.mask else {}))


HANDLERS = by_kind(teach, ask, propose, complete_rows, read)
