"""Settings of the trainer. None of them changes a result: such values are in the step's parameters."""

from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.platform.http_url import checked_http_url
from shared.platform.ray_api import checked_address


class TrainerSettings(BaseSettings):
    """METEOR_TRAINER_SERVING_BASE: the model that the default student's engine was started with, where it is not the
    folder's path; the engine finds an adapter only if its configuration names exactly this.
    """

    model_config = SettingsConfigDict(
        env_prefix="METEOR_TRAINER_",
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
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
    engine_control_url: str = Field(
        default="",
        description="with METEOR_DEVICE_SHARING=time: control port of the engine on the same device, which lends it during a training",
    )
    processes: int = Field(
        default=0, ge=0, le=64, description="that train one model together; 0: one per GPU named, one on a CPU"
    )
    padding_free: bool | None = Field(
        default=None,
        description="passes without padding, of students whose attention keeps rows apart; default: on a GPU with flash-attn",
    )
    fsdp: bool | None = Field(
        default=None,
        description="several GPUs hold an adapter's base in parts instead of a copy each; default: where a copy does not fit",
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
    launcher: Literal["local", "ray"] = Field(
        default="local", description="where steps are computed: beside the worker, or on the machines of a Ray cluster"
    )
    ray_address: str = Field(default="", description="of the cluster's dashboard: http://HOST:8265")
    ray_token: SecretStr = Field(
        default=SecretStr(""), description="where the cluster asks for one (RAY_AUTH_MODE=token)"
    )
    ray_gpus: int = Field(
        default=1,
        ge=0,
        le=64,
        description="of one machine, for each SFT and DPO; other steps take one. 0: a CPU trains",
    )
    ray_cpus: float = Field(default=1.0, gt=0, description="that Ray reserves for each step")
    ray_python: str = Field(default="python", min_length=1, description="interpreter on the cluster's machines")
    ray_slots: int = Field(
        default=1,
        ge=1,
        le=64,
        description="steps that this worker has on the cluster at once; conversions and pushes stay one at a time",
    )
    ray_abandoned_after: timedelta = Field(
        default=timedelta(minutes=10),
        ge=timedelta(minutes=2),
        description="a step on the cluster that no worker follows for so long ends itself",
    )

    @field_validator("ray_address")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return checked_address(value) if value else value

    @field_validator("engine_control_url")
    @classmethod
    def _is_control_port(cls, value: str) -> str:
        form = "write the address of the engine's control port, http://HOST:8102"
        return checked_http_url(value, form, "METEOR_INTERNAL_TOKEN has the token") if value else value


@lru_cache
def trainer_settings() -> TrainerSettings:
    return TrainerSettings()
