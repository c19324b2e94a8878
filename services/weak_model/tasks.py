"""The `weak` queue: steps in, calls to the engine out."""

from collections.abc import Awaitable, Callable

from services.weak_model.clients import StudentClient
from services.weak_model.service import answering
from services.weak_model.service.kept import Kept
from services.weak_model.settings import weak_settings
from shared.contracts.rows import StudentPrompt
from shared.contracts.steps import StepKind, StepRequest, StepResult, StudentParams
from shared.queue.step_task import Handler, StepContext

Work = Callable[..., Awaitable[tuple[list, answering.Metrics]]]


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
    StepKind.GUIDE: _handler(answering.write_guidelines),
    StepKind.ANSWER: _handler(answering.answer),
    StepKind.REASON: _handler(answering.reason),
}
