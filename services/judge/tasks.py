"""The `judge` queue: verdicts, preferences and scores through the gateway, grades on this machine."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.judge.compare import compare
from services.judge.grade import grade
from services.judge.rate import rate
from services.judge.review import review
from services.judge.settings import judge_settings
from shared.contracts.rows import Grades, JudgeInput
from shared.contracts.steps import JudgeParams, StepKind
from shared.platform.gateway_client import GatewayClient
from shared.platform.run_rows import OnProgress
from shared.queue.step_gateway import step_gateway
from shared.queue.step_handler import RowsAndMetrics, StepHandler, by_kind, step_handler
from shared.queue.step_task import StepContext

JudgeRow = TypeVar("JudgeRow")


def asks_the_judge(
    kind: StepKind, ask: Callable[[GatewayClient, JudgeParams, list[JudgeRow], OnProgress], Awaitable[RowsAndMetrics]]
) -> StepHandler[JudgeParams, JudgeRow]:
    async def handle(params: JudgeParams, rows: list[JudgeRow], context: StepContext) -> RowsAndMetrics:
        url = judge_settings().gateway_url
        async with step_gateway(context, url, batch=params.batch, param="distillation.judge") as gateway:
            judged, counts = await ask(gateway, params, rows, context.progress)
            return judged, counts | gateway.refusals()

    return StepHandler(kind, handle)


@step_handler(StepKind.GRADE)
async def grade_rows(
    _params: JudgeParams, rows: list[JudgeInput], context: StepContext
) -> tuple[list[Grades], dict[str, int]]:
    return await grade(rows, context.progress)


HANDLERS = by_kind(
    asks_the_judge(StepKind.REVIEW, review),
    asks_the_judge(StepKind.COMPARE, compare),
    asks_the_judge(StepKind.RATE, rate),
    grade_rows,
)
