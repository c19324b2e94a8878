"""Settings of the trainer. None of them changes a result: such values are in the step's parameters."""

from datetime import timedelta
from functools import lru_cache
from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TrainerSettings(BaseSettings):
    """METEOR_TRAINER_SERVING_BASE: the model that the default student's engine was started with, where it is not the
    folder's path; the engine finds an adapter only if its configuration names exactly this.
    """

    model_config = SettingsConfigDict(
        env_prefix="METEOR_TRAINER_", extra="ignore", populate_by_name=True, env_ignore_empty=True
    )

    serving_base: str | None = None
    checkpoint_every: timedelta = timedelta(seconds=60)
    checkpoint_steps: int = Field(default=0, ge=0, description="also after so many optimiser steps; 0: by time only")
    memory_gb: float | None = Field(
        default=None, ge=0.1, description="a training that needs more, without its libraries, fails; default: no limit"
    )
    threads: int = Field(default=0, ge=0, description="of each training process on a CPU; 0: the cores, shared evenly")
    gpus: str = Field(
        default="",
        pattern=r"^(\d+(,\d+)*)?$",
        description="numbers of the GPUs that train, as nvidia-smi lists them: 0 or 0,1. Several train one model together. Default: "
        "the first that this process may use",
    )
    processes: int = Field(
        default=0, ge=0, le=64, description="that train one model together; 0: one per GPU named, one on a CPU"
    )
    gguf_converter: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("METEOR_GGUF_CONVERTER"),
        description="llama.cpp's convert_hf_to_gguf.py, for exports as GGUF",
    )
    probe: bool = Field(
        default=True,
        description="try at the start, beside other work, what each student can do; once per model and version",
    )
    stop_within: timedelta = Field(
        default=timedelta(seconds=3), description="a cancelled training process is killed after this"
    )
    keep_scratch: timedelta = Field(
        default=timedelta(days=1), description="checkpoints of abandoned steps are removed after this"
    )


@lru_cache
def trainer_settings() -> TrainerSettings:
    return TrainerSettings()
