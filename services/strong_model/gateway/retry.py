"""Retries at one provider, bounded by number and by a deadline that begins with the first attempt."""

import asyncio
import random
import time

from services.strong_model.gateway.budget import BudgetHeld
from services.strong_model.gateway.call import Attempts, Call, Send
from services.strong_model.gateway.errors import NEVER, BreakerOpen, ProviderError
from services.strong_model.gateway.providers import Provider
from services.strong_model.settings import StrongSettings
from shared.contracts.json_types import Json
from shared.platform.log import get_logger

log = get_logger(__name__)


class Retry:
    """attempt: the chain below, from the breaker to the provider."""

    def __init__(self, attempt: Send, settings: StrongSettings):
        self._attempt = attempt
        self.settings = settings

    async def __call__(self, call: Call, provider: Provider, last: bool) -> Json:
        """An attempt that found no connection cost nothing, so that of a call's last provider is bounded by
        METEOR_STRONG_PATIENCE and not by number: a local teacher has the time to start again. One that it refused for its rate is
        bounded by neither: the rate limiter's gate keeps all calls back until the provider's pause is over."""
        attempts = Attempts(call, provider, self.settings, last)
        charged = 0
        latest: ProviderError | None = None
        while True:
            try:
                return (await self._attempt(attempts)).body
            except BudgetHeld as held:
                pause = held.wait()
            except BreakerOpen as resting:
                raise latest or resting from None
            except ProviderError as failure:
                latest = failure
                if failure.paused:
                    raise
                if failure.limited and last and not call.delivered and call.waiting:
                    if not attempts.limited():
                        raise
                    log.warning("refused for its rate", call_id=call.call_id, asks_for_s=failure.retry_after)
                    continue
                attempts.limited_since = None
                attempts.failures += 1
                charged += failure.connected or not last
                seconds = self._pause_s(attempts.failures, failure)
                most = min(self.settings.attempts, failure.most_attempts)
                exhausted = most == NEVER or charged >= most
                deadline = attempts.deadline if failure.connected else attempts.unavailable_deadline
                if exhausted or call.delivered or not call.waiting or time.monotonic() + seconds >= deadline:
                    raise
                log.warning("trying again", call_id=call.call_id, code=failure.code, in_s=round(seconds, 2))
                pause = asyncio.sleep(seconds)
            await call.unless_stopped(pause)

    def _pause_s(self, failures: int, failure: ProviderError) -> float:
        """The seconds that the provider asked for, but at least a jittered, doubling pause of our own."""
        doubled = self.settings.backoff.total_seconds() * 2 ** min(failures - 1, 20)
        own = min(doubled, self.settings.max_backoff.total_seconds()) * random.uniform(0.5, 1.0)  # noqa: S311
        return max(own, failure.retry_after or 0.0)
