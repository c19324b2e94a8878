"""Settings of the judge's worker. Which model judges is the gateway's business (its provider "judge", or the teacher)."""

from functools import lru_cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class JudgeSettings(BaseSettings):
    """METEOR_JUDGE_GATEWAY_URL: where the strong-model gateway listens. METEOR_JUDGE_SLOTS: steps at once."""

    model_config = SettingsConfigDict(env_prefix="METEOR_JUDGE_", extra="ignore", hide_input_in_errors=True)

    gateway_url: str = "http://127.0.0.1:8200"
    slots: int = Field(default=2, ge=1)


@lru_cache
def judge_settings() -> JudgeSettings:
    return JudgeSettings()
