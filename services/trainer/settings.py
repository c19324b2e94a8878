"""Settings of the trainer. What changes a result is in the step's parameters, never here."""

from datetime import timedelta
from functools import lru_cache
from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TrainerSettings(BaseSettings):
    """METEOR_TRAINER_SERVING_BASE: what the default student's engine was started with, when that is spelled differently
    from the folder; an adapter is found by the engine only when its configuration names exactly this.
    """

    model_config = SettingsConfigDict(
        env_prefix="METEOR_TRAINER_", extra="ignore", populate_by_name=True, env_ignore_empty=True
    )

    serving_base: str | None = None
    checkpoint_every: timedelta = timedelta(seconds=60)
    checkpoint_steps: int = Field(default=0, ge=0, description="also after so many optimiser steps; 0: by time alone")
    memory_gb: float | None = Field(
        default=None, ge=0.1, description="a training that needs more beside its libraries fails; default: no limit"
    )
    threads: int = Field(default=0, ge=0, description="of the training process on a CPU; 0: one per core")
    gguf_converter: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("METEOR_GGUF_CONVERTER"),
        description="llama.cpp's convert_hf_to_gguf.py, for exports as GGUF",
    )
    stop_within: timedelta = Field(
        default=timedelta(seconds=3), description="a cancelled training process that lives longer is killed"
    )
    keep_scratch: timedelta = Field(
        default=timedelta(days=1), description="checkpoints of abandoned steps are removed after this"
    )


@lru_cache
def trainer_settings() -> TrainerSettings:
    return TrainerSettings()
