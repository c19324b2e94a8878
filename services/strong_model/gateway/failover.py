"""Failover: the first of a call's providers that answers."""

from collections.abc import Mapping

from services.strong_model.gateway import metrics
from services.strong_model.gateway.call import Call
from services.strong_model.gateway.errors import ProviderError
from services.strong_model.gateway.retry import Retry
from shared.contracts.json_types import Json
from shared.platform.log import get_logger

log = get_logger(__name__)


class Failover:
    def __init__(self, retries: Mapping[str, Retry]):
        self._retries = retries

    async def __call__(self, call: Call) -> Json:
        """Raises ProviderError, BudgetExceeded, Cancelled."""
        *others, last = call.providers
        for provider in others:
            try:
                return await self._retries[provider.name](call, provider, last=False)
            except ProviderError as failure:
                if not failure.fallback_may_help or call.delivered or not call.waiting:
                    raise
                metrics.FAILED_OVER.labels(provider.name).inc()
                log.warning("another provider is asked", failed=provider.name, code=failure.code)
        return await self._retries[last.name](call, last, last=True)
