"""Settings of the strong-model service's two processes."""

from datetime import timedelta
from functools import lru_cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.ledger.accounts import Limits


class StrongSettings(BaseSettings):
    """METEOR_STRONG_*. gateway_url: used by the worker; slots: steps that the worker runs at once."""

    model_config = SettingsConfigDict(env_prefix="METEOR_STRONG_", extra="ignore", hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = 8200
    gateway_url: str = "http://127.0.0.1:8200"
    slots: int = Field(default=2, ge=1)
    concurrency: int = Field(default=32, ge=1, description="most calls at once, per provider")
    attempts: int = Field(default=5, ge=1, description="most times that one request is sent")
    unavailable_timeout: timedelta = Field(
        default=timedelta(minutes=3),
        validation_alias="METEOR_STRONG_PATIENCE",
        description="how long a request waits for a provider that accepts no connection",
    )
    connect_timeout: timedelta = timedelta(seconds=5)
    silence_timeout: timedelta = Field(
        default=timedelta(minutes=5), description="how long a provider may send nothing, not even a sign of life"
    )
    attempt_timeout: timedelta = Field(default=timedelta(minutes=20), description="one attempt, answer included")
    deadline: timedelta = Field(
        default=timedelta(minutes=25), description="all attempts of one request, pauses included"
    )
    backoff: timedelta = Field(default=timedelta(seconds=0.5), description="first pause; doubles up to max_backoff")
    max_backoff: timedelta = timedelta(seconds=20)
    longest_wait: timedelta = Field(
        default=timedelta(minutes=2),
        description="so long a provider's own pause is waited for; in a longer one, such as of a day's quota, jobs rest",
    )
    max_answer_bytes: int = Field(default=10_000_000, ge=1000)
    breaker_failures: int = Field(
        default=10, ge=1, description="failures in a row after which a provider gets only probes"
    )
    breaker_pause: timedelta = Field(default=timedelta(seconds=5), description="between two probes")
    batch_window: timedelta = Field(
        default=timedelta(seconds=30), description="a batch is sent when nothing was added for this long"
    )
    batch_poll: timedelta = Field(
        default=timedelta(seconds=30), description="between two requests for the state of a submitted batch"
    )
    batch_requests: int = Field(default=50_000, ge=1, description="most requests of one batch")
    batch_bytes: int = Field(default=190_000_000, ge=1000, description="most bytes of one batch's file")
    project_usd: float | None = Field(default=None, ge=0, description="what one project may spend per month (UTC)")
    project_tokens: int | None = Field(default=None, ge=0)
    project_calls: int | None = Field(default=None, ge=0)

    @property
    def project_limits(self) -> Limits:
        return Limits(self.project_usd, self.project_tokens, self.project_calls)


@lru_cache
def strong_settings() -> StrongSettings:
    return StrongSettings()
