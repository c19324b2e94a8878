"""The `judge` queue: verdicts, preferences and scores through the gateway, grades on this machine."""

from services.judge.compare import compare
from services.judge.grade import grade
from services.judge.rate import rate
from services.judge.review import review
from services.judge.settings import judge_settings
from shared.contracts.rows import AnswerScores, ComparisonInput, Grades, JudgeInput, Preference, Verdict
from shared.contracts.steps import JudgeParams, StepKind
from shared.platform.gateway_client import GatewayClient
from shared.queue.step_gateway import step_gateway
from shared.queue.step_handler import by_kind, step_handler
from shared.queue.step_task import StepContext


def _gateway(params: JudgeParams, context: StepContext) -> GatewayClient:
    return step_gateway(context, judge_settings().gateway_url, batch=params.batch, param="distillation.judge")


@step_handler(StepKind.REVIEW)
async def review_step(
    params: JudgeParams, rows: list[JudgeInput], context: StepContext
) -> tuple[list[Verdict], dict[str, int]]:
    async with _gateway(params, context) as gateway:
        return await review(gateway, params, rows, context.progress)


@step_handler(StepKind.COMPARE)
async def compare_step(
    params: JudgeParams, rows: list[ComparisonInput], context: StepContext
) -> tuple[list[Preference], dict[str, float]]:
    async with _gateway(params, context) as gateway:
        return await compare(gateway, params, rows, context.progress)


@step_handler(StepKind.RATE)
async def rate_step(
    params: JudgeParams, rows: list[JudgeInput], context: StepContext
) -> tuple[list[AnswerScores], dict[str, int]]:
    async with _gateway(params, context) as gateway:
        return await rate(gateway, params, rows, context.progress)


@step_handler(StepKind.GRADE)
async def grade_step(
    _params: JudgeParams, rows: list[JudgeInput], context: StepContext
) -> tuple[list[Grades], dict[str, int]]:
    return await grade(rows, context.progress)


HANDLERS = by_kind(review_step, compare_step, rate_step, grade_step)
