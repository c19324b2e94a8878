"""The `weak` queue: steps in, calls to the engine out."""

from collections.abc import Awaitable, Callable

from services.weak_model.settings import weak_settings
from services.weak_model.worker import completions
from services.weak_model.worker.cached_client import Kept
from services.weak_model.worker.engine_client import StudentClient
from shared.contracts.rows import StudentPrompt
from shared.contracts.steps import StepKind, StepRequest, StepResult, StudentParams
from shared.queue.step_task import Handler, StepContext

Work = Callable[..., Awaitable[tuple[list, completions.Metrics]]]


def _handler(work: Work) -> Handler:
    async def handle(request: StepRequest, context: StepContext) -> StepResult:
        params = StudentParams.model_validate(request.params)
        rows = [StudentPrompt.model_validate(row) for row in request.rows]
        settings = weak_settings()
        token = context.settings.internal_token.get_secret_value()
        timeout_s, patience_s = settings.timeout.total_seconds(), settings.patience.total_seconds()
        url, control = settings.engine_url, settings.engine_control_url
        async with StudentClient(url, token, timeout_s, patience_s, control) as client:
            await client.until_served(params.model.served_by, context.waits_for)
            kept = Kept(client, context.scratch / "answers.jsonl")
            written, metrics = await work(kept, params, rows, context.progress)
        return StepResult(rows=[row.model_dump(mode="json") for row in written], metrics=metrics)

    return handle


HANDLERS = {
    StepKind.GUIDE: _handler(completions.write_guidelines),
    StepKind.ANSWER: _handler(completions.answer),
    StepKind.REASON: _handler(completions.reason),
}
