"""The strong-model gateway for the handlers of steps."""

from shared.platform.call_headers import origin_headers
from shared.platform.gateway_client import GatewayClient
from shared.queue.step_task import StepContext


def step_gateway(
    context: StepContext, url: str, *, batch: bool = False, param: str = "distillation.teacher"
) -> GatewayClient:
    """A client whose calls are made for this step. param: the job's field that names the provider."""
    claim = context.claim
    return GatewayClient(
        url,
        context.settings.internal_token.get_secret_value(),
        origin_headers(claim.project_id, claim.job_id, claim.step_id, context.phase),
        param=param,
        wanted=context.goes_on,
        batch=batch,
    )
