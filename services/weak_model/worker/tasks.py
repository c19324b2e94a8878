"""The `weak` queue: steps in, calls to the engine out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.weak_model.settings import weak_settings
from services.weak_model.worker import completions
from services.weak_model.worker.cached_client import CachedClient
from services.weak_model.worker.student_client import StudentClient
from shared.contracts.rows import Guideline, StudentCompletion, StudentPrompt
from shared.contracts.steps import StepKind, StudentParams
from shared.queue.step_handler import by_kind, step_handler
from shared.queue.step_task import StepContext


@asynccontextmanager
async def _engine(params: StudentParams, context: StepContext) -> AsyncIterator[CachedClient]:
    """The engine once it serves the step's model; completions of an earlier attempt come from the step's cache."""
    settings, token = weak_settings(), context.settings.internal_token.get_secret_value()
    timeout_s, unavailable_s = settings.timeout.total_seconds(), settings.unavailable_timeout.total_seconds()
    async with StudentClient(
        settings.engine_url, token, timeout_s, unavailable_s, settings.engine_control_url
    ) as client:
        await client.until_served(params.model.served_by, context.waits_for)
        yield CachedClient(client, context.scratch / "answers.jsonl")


@step_handler(StepKind.GUIDE)
async def guide(
    params: StudentParams, rows: list[StudentPrompt], context: StepContext
) -> tuple[list[Guideline], completions.Metrics]:
    async with _engine(params, context) as client:
        return await completions.write_guidelines(client, params, rows, context.progress)


@step_handler(StepKind.ANSWER)
async def answer(
    params: StudentParams, rows: list[StudentPrompt], context: StepContext
) -> tuple[list[StudentCompletion], completions.Metrics]:
    async with _engine(params, context) as client:
        return await completions.answer(client, params, rows, context.progress)


@step_handler(StepKind.REASON)
async def reason(
    params: StudentParams, rows: list[StudentPrompt], context: StepContext
) -> tuple[list[StudentCompletion], completions.Metrics]:
    async with _engine(params, context) as client:
        return await completions.reason(client, params, rows, context.progress)


HANDLERS = by_kind(guide, answer, reason)
