"""Settings of the orchestrator (prefix METEOR_ORCHESTRATOR_). The students it may train are in shared.artifacts.bases."""

from datetime import timedelta

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class OrchestratorSettings(BaseSettings):
    """max_jobs: jobs that one process runs at once. collect_every: how often what nobody needs any more is removed."""

    model_config = SettingsConfigDict(env_prefix="METEOR_ORCHESTRATOR_", extra="ignore", hide_input_in_errors=True)

    max_rank: int = Field(
        default=16,
        ge=1,
        validation_alias=AliasChoices("METEOR_ENGINE_MAX_LORA_RANK"),
        description="largest adapter rank that the engine serves; a job that asks for more is refused",
    )
    max_jobs: int = Field(default=4, ge=1)
    collect_every: timedelta = timedelta(hours=1)
