"""Settings of the orchestrator (prefix METEOR_ORCHESTRATOR_) and of the student it trains."""

from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class OrchestratorSettings(BaseSettings):
    """max_jobs: jobs that one process runs at once.  student_path: the base's folder, for its content hash."""

    model_config = SettingsConfigDict(env_prefix="METEOR_ORCHESTRATOR_", extra="ignore", populate_by_name=True)

    max_jobs: int = Field(default=4, ge=1)
    student_model: str = Field(
        default="smollm2-135m-instruct",
        validation_alias=AliasChoices("METEOR_STUDENT_MODEL", "METEOR_ORCHESTRATOR_STUDENT_MODEL"),
    )
    student_path: Path | None = Field(
        default=None, validation_alias=AliasChoices("METEOR_STUDENT_PATH", "METEOR_ORCHESTRATOR_STUDENT_PATH")
    )
