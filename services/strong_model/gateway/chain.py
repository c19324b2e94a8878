"""The gateway as a chain of stages, each in a file of its own. A call passes them in this order:

    coalesce       equal requests in flight become one call
    cache          an answer that was paid for before
    failover       the provider asked for, then its fallbacks
    retry          attempts at one provider
    negotiate      what the provider refuses is changed, what its reasoning needs is added
    breaker        nothing but probes to a provider that is down
    concurrency    as many calls at once as the provider bears
    rate limit     requests and tokens per minute
    budget         the cost is reserved in the ledger before an attempt is sent, and settled after it
    provider       one attempt over HTTP

Coalescing stands before the cache, because no await may come between looking for a call in flight and opening one.
"""

from services.strong_model.gateway.breaker import Breaker
from services.strong_model.gateway.budget import BudgetStage
from services.strong_model.gateway.cache import Cache
from services.strong_model.gateway.call import chained
from services.strong_model.gateway.coalesce import Coalescer
from services.strong_model.gateway.concurrency import ConcurrencyLimiter
from services.strong_model.gateway.failover import Failover
from services.strong_model.gateway.negotiate import Negotiation
from services.strong_model.gateway.provider import ProviderClient
from services.strong_model.gateway.providers import Provider
from services.strong_model.gateway.rate_limit import Gate, RateLimiter
from services.strong_model.gateway.retry import Retry
from services.strong_model.gateway.shared_state import CancelledStep, SharedState
from services.strong_model.settings import StrongSettings
from shared.contracts.masking import masked
from shared.contracts.providers import ProviderStatus, ProviderTraffic
from shared.ledger.learned_store import LearnedStore
from shared.ledger.store import Ledger
from shared.platform.settings import platform_settings


class Gateway:
    """All calls of this process. shared: what the gateways of one database tell each other; None: this one is alone."""

    def __init__(
        self,
        ledger: Ledger,
        providers: dict[str, Provider],
        settings: StrongSettings,
        shared: SharedState | None = None,
    ):
        self.shared = shared
        self.ledger = ledger
        self.providers = providers
        self.clients = {name: ProviderClient(provider, settings) for name, provider in providers.items()}
        self.rate_limiters = {name: rate_limiter(provider, settings, shared) for name, provider in providers.items()}
        learned = LearnedStore(ledger.engine)
        self.negotiations = {name: Negotiation(provider, learned) for name, provider in providers.items()}
        budget = BudgetStage(ledger)
        self.breakers = {name: Breaker(name, settings, shared) for name in providers}
        self.concurrency = {
            name: ConcurrencyLimiter(name, provider.concurrent or settings.concurrency, shared)
            for name, provider in providers.items()
        }
        retries = {
            name: Retry(
                chained(
                    self.negotiations[name],
                    self.breakers[name],
                    self.concurrency[name],
                    self.rate_limiters[name],
                    budget,
                    end=self.clients[name].send,
                ),
                settings,
            )
            for name in providers
        }
        self.cache = Cache(ledger, Failover(retries), settings.batch_poll.total_seconds())
        self.calls = Coalescer(self.cache, providers)

    def status(self, name: str) -> ProviderStatus:
        """What was learned of a provider, and how calls to it go now."""
        breaker, concurrency, provider = self.breakers[name], self.concurrency[name], self.providers[name]
        traffic = ProviderTraffic(
            breaker="open" if breaker.open else "closed",
            cause=masked(breaker.cause.message) if breaker.cause is not None else "",
            in_use=concurrency.in_use,
            limit=int(concurrency.limit),
            most=concurrency.most,
            requests_per_minute=provider.requests_per_minute,
            tokens_per_minute=provider.tokens_per_minute,
        )
        return self.negotiations[name].status().model_copy(update={"traffic": traffic})

    async def cancel(self, step_id: str, client_id: str | None) -> int:
        """Abort the calls that only this step waits for, in every gateway; returns how many of this one's."""
        if self.shared is not None:
            await self.shared.tell_cancelled(CancelledStep(step_id, client_id))
        return await self.calls.cancel(step_id, client_id)

    async def close(self, timeout_s: float) -> None:
        """Wait so long for what was sent; the rest is settled as unknown at the next start."""
        await self.calls.close(timeout_s)
        for resource in (*self.rate_limiters.values(), *self.clients.values()):
            await resource.close()


def rate_limiter(provider: Provider, settings: StrongSettings, shared: SharedState | None = None) -> RateLimiter:
    platform = platform_settings()
    pauses = (settings.backoff, settings.max_backoff, settings.longest_wait)
    gate = Gate(provider, *(pause.total_seconds() for pause in pauses))
    return RateLimiter(provider, platform.redis_url, platform.key_prefix, gate, shared)
