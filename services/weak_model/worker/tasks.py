"""The `weak` queue: steps in, calls to the engine out."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from services.weak_model.settings import weak_settings
from services.weak_model.worker import adapter_check, completions
from services.weak_model.worker.cached_client import CachedClient
from services.weak_model.worker.student_client import StudentClient
from shared.contracts.rows import StudentPrompt
from shared.contracts.steps import StepKind, StudentParams
from shared.queue.step_handler import RowsAndMetrics, StepHandler, by_kind, step_handler
from shared.queue.step_task import StepContext

Write = Callable[[CachedClient, StudentParams, list[StudentPrompt], Callable[..., None]], Awaitable[RowsAndMetrics]]


@asynccontextmanager
async def _engine(params: StudentParams, context: StepContext) -> AsyncGenerator[StudentClient]:
    """The engine once it serves the step's model."""
    settings, token = weak_settings(), context.settings.internal_token.get_secret_value()
    timeout_s, unavailable_s = settings.timeout.total_seconds(), settings.unavailable_timeout.total_seconds()
    async with StudentClient(
        settings.engine_url, token, timeout_s, unavailable_s, settings.engine_control_url
    ) as client:
        await client.until_served(params.model.served_by, context.waits_for)
        yield client


def _handler(kind: StepKind, write: Write) -> StepHandler[StudentParams, StudentPrompt]:
    @step_handler(kind)
    async def handle(params: StudentParams, rows: list[StudentPrompt], context: StepContext) -> RowsAndMetrics:
        """The engine's adapter is compared with the trainer's first. Completions of an earlier attempt come from the step's cache."""
        async with _engine(params, context) as client:
            checked = await adapter_check.check(client, context.artifacts, params.model)
            cached = CachedClient(client, context.scratch / "answers.jsonl")
            results, metrics = await write(cached, params, rows, context.progress)
            return results, metrics | checked

    return handle


HANDLERS = by_kind(
    _handler(StepKind.GUIDE, completions.write_guidelines),
    _handler(StepKind.ANSWER, completions.answer),
    _handler(StepKind.REASON, completions.reason),
    _handler(StepKind.SAMPLE, completions.sample),
)
