"""The `judge` queue: verdicts, preferences and scores through the gateway, grades on this machine."""

from services.judge.compare import compare as compare_answers
from services.judge.grade import grade as grade_answers
from services.judge.rate import rate as rate_answers
from services.judge.review import review as review_answers
from services.judge.settings import judge_settings
from shared.contracts.rows import ComparisonInput, JudgeInput
from shared.contracts.steps import JudgeParams, StepKind, StepRequest, StepResult
from shared.platform.gateway_client import GatewayClient
from shared.queue.step_gateway import step_gateway
from shared.queue.step_task import StepContext


async def review(request: StepRequest, context: StepContext) -> StepResult:
    params = JudgeParams.model_validate(request.params)
    rows = [JudgeInput.model_validate(row) for row in request.rows]
    async with _gateway(context, params.batch) as gateway:
        verdicts, metrics = await review_answers(gateway, params, rows, context.progress)
    return StepResult(rows=[item.model_dump(mode="json") for item in verdicts], metrics=metrics)


async def compare(request: StepRequest, context: StepContext) -> StepResult:
    params = JudgeParams.model_validate(request.params)
    rows = [ComparisonInput.model_validate(row) for row in request.rows]
    async with _gateway(context, params.batch) as gateway:
        preferences, metrics = await compare_answers(gateway, params, rows, context.progress)
    return StepResult(rows=[item.model_dump(mode="json") for item in preferences], metrics=metrics)


async def rate(request: StepRequest, context: StepContext) -> StepResult:
    params = JudgeParams.model_validate(request.params)
    rows = [JudgeInput.model_validate(row) for row in request.rows]
    async with _gateway(context, params.batch) as gateway:
        ratings, metrics = await rate_answers(gateway, params, rows, context.progress)
    return StepResult(rows=[item.model_dump(mode="json") for item in ratings], metrics=metrics)


async def grade(request: StepRequest, context: StepContext) -> StepResult:
    rows = [JudgeInput.model_validate(row) for row in request.rows]
    grades, metrics = await grade_answers(rows, context.progress)
    return StepResult(rows=[item.model_dump(mode="json") for item in grades], metrics=metrics)


def _gateway(context: StepContext, batch: bool) -> GatewayClient:
    return step_gateway(context, judge_settings().gateway_url, batch=batch, param="distillation.judge")


HANDLERS = {StepKind.COMPARE: compare, StepKind.RATE: rate, StepKind.REVIEW: review, StepKind.GRADE: grade}
