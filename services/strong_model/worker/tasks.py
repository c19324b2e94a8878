"""The `strong` queue: steps in, calls to the gateway out. Imports are read here too: they come from outside as the calls do."""

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
from shared.platform.gateway_client import GatewayClient, origin_headers
from shared.queue.step_task import StepContext


def _gateway(context: StepContext, batch: bool = False) -> GatewayClient:
    claim = context.claim
    origin = origin_headers(claim.project_id, claim.job_id, claim.step_id, context.phase)
    token = context.settings.internal_token.get_secret_value()
    return GatewayClient(strong_settings().gateway_url, token, origin, wanted=context.goes_on, batch=batch)


async def teach(request: StepRequest, context: StepContext) -> StepResult:
    params = TeachParams.model_validate(request.params)
    rows = [TeacherInput.model_validate(row) for row in request.rows]
    async with _gateway(context, params.batch) as gateway:
        lessons, metrics = await teaching.teach(gateway, params, rows, context.progress)
    return StepResult(rows=[item.model_dump(mode="json") for item in lessons], metrics=metrics)


async def ask(request: StepRequest, context: StepContext) -> StepResult:
    params = AskParams.model_validate(request.params)
    rows = [Passage.model_validate(row) for row in request.rows]
    async with _gateway(context) as gateway:
        written, metrics = await questions.write_questions(gateway, params, rows, context.progress)
    return StepResult(rows=[item.model_dump(mode="json") for item in written], metrics=metrics)


async def read(request: StepRequest, context: StepContext) -> StepResult:
    """In a thread, which ends at its next sign of progress when the step is stopped: within some hundred rows, or when a file
    has come from the hub."""
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
