"""The `judge` queue: attempts in; verdicts (through the gateway) or grades (on this machine) out."""

from services.judge import review as reviewing
from services.judge.compare import compare as compare_answers
from services.judge.rate import rate as rate_answers
from services.judge.settings import judge_settings
from shared.contracts.rows import ComparisonInput, JudgeInput
from shared.contracts.steps import JudgeParams, StepKind, StepRequest, StepResult
from shared.platform.gateway_client import GatewayClient, origin_headers
from shared.queue.step_task import StepContext


async def review(request: StepRequest, context: StepContext) -> StepResult:
    params = JudgeParams.model_validate(request.params)
    rows = [JudgeInput.model_validate(row) for row in request.rows]
    async with _gateway(context, params.batch) as gateway:
        verdicts, metrics = await reviewing.review(gateway, params, rows, context.progress)
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
    grades, metrics = await reviewing.grade(rows, context.progress)
    return StepResult(rows=[item.model_dump(mode="json") for item in grades], metrics=metrics)


def _gateway(context: StepContext, batch: bool) -> GatewayClient:
    claim = context.claim
    origin = origin_headers(claim.project_id, claim.job_id, claim.step_id, context.phase)
    token = context.settings.internal_token.get_secret_value()
    return GatewayClient(
        judge_settings().gateway_url,
        token,
        origin,
        param="distillation.judge",
        wanted=context.goes_on,
        batch=batch,
    )


HANDLERS = {StepKind.COMPARE: compare, StepKind.RATE: rate, StepKind.REVIEW: review, StepKind.GRADE: grade}
