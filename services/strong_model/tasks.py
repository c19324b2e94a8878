"""The `strong` queue: steps in, calls to the gateway out."""

from services.strong_model import service
from services.strong_model.settings import strong_settings
from shared.contracts.rows import Guided
from shared.contracts.steps import StepKind, StepRequest, StepResult, TeachParams
from shared.platform.gateway import GatewayClient, origin_headers
from shared.queue.step_task import StepContext


async def teach(request: StepRequest, context: StepContext) -> StepResult:
    params = TeachParams.model_validate(request.params)
    rows = [Guided.model_validate(row) for row in request.rows]
    claim = context.claim
    origin = origin_headers(claim.project_id, claim.job_id, claim.step_id, context.phase)
    token = context.settings.internal_token.get_secret_value()
    async with GatewayClient(strong_settings().gateway_url, token, origin, wanted=context.goes_on) as gateway:
        lessons, metrics = await service.teach(gateway, params, rows, context.progress)
    return StepResult(rows=[item.model_dump(mode="json") for item in lessons], metrics=metrics)


HANDLERS = {StepKind.TEACH: teach}
