"""Settings of the weak model: the engine's process and the worker's."""

from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class WeakSettings(BaseSettings):
    """METEOR_WEAK_*: the worker of the queue `weak`. engine_url: any OpenAI-compatible server, without /v1."""

    model_config = SettingsConfigDict(env_prefix="METEOR_WEAK_", extra="ignore", hide_input_in_errors=True)

    engine_url: str = "http://127.0.0.1:8101"
    engine_control_url: str = Field(
        default="", description="the engine's control port; empty: an external server, which serves one model"
    )
    slots: int = Field(
        default=3,
        ge=1,
        description="steps at once, one process each; together their rows should exceed the engine's max_num_seqs",
    )
    timeout: timedelta = Field(
        default=timedelta(minutes=30), description="for one row, with its waiting time in the engine"
    )
    unavailable_timeout: timedelta = Field(
        default=timedelta(seconds=60),
        validation_alias="METEOR_WEAK_PATIENCE",
        description="how long a row waits for an engine that is unavailable or starting",
    )


class EngineSettings(BaseSettings):
    """METEOR_ENGINE_*: one vLLM server kept alive, or (with url) a running server that is only observed.

    model: a folder with safetensors or a hub id; adapters name the same text as their base. Without METEOR_ENGINE_MODEL
    and METEOR_ENGINE_SERVED_NAME the student of the deployment is served (METEOR_STUDENT_PATH, METEOR_STUDENT_MODEL).
    """

    model_config = SettingsConfigDict(
        env_prefix="METEOR_ENGINE_",
        extra="ignore",
        populate_by_name=True,
        protected_namespaces=(),
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    model: str = Field(default="", validation_alias=AliasChoices("METEOR_ENGINE_MODEL", "METEOR_STUDENT_PATH"))
    served_name: str = Field(
        default="", validation_alias=AliasChoices("METEOR_ENGINE_SERVED_NAME", "METEOR_STUDENT_MODEL")
    )
    control_port: int | None = Field(
        default=None, ge=1, le=65_535, description="where callers request models; none: one model only"
    )
    linger: timedelta = Field(
        default=timedelta(seconds=10), description="an unused model is replaced by a waiting one after this"
    )
    turn: timedelta = Field(
        default=timedelta(minutes=5), description="a model in use is replaced by a waiting one after this"
    )
    drain: timedelta = Field(
        default=timedelta(minutes=2),
        description="running requests may finish for so long before another model is loaded",
    )
    url: str | None = Field(default=None, description="a running server, without /v1; no server is started then")
    host: str = "127.0.0.1"
    port: int = Field(default=8101, ge=1, le=65_535)
    dtype: str = Field(
        default="auto", description="auto: the model's own; float32 on a processor without bfloat16 instructions"
    )
    max_model_len: int = Field(default=2048, ge=16, description="prompt and completion together, in tokens")
    max_num_seqs: int = Field(default=64, ge=1, description="requests computed at once; others wait")
    enforce_eager: bool | None = Field(
        default=None, description="no compilation. Default: on for CPU (127 s of start become 45), off for a GPU"
    )

    kv_cache_gb: float = Field(default=1.0, gt=0, description="CPU only")
    omp_threads_bind: str = Field(default="all", description='CPU only: all, auto, nobind, or cores such as "0-3"')
    threads: int = Field(
        default=0,
        ge=0,
        description="CPU only: compute threads; 0: one per core. Two engines on one machine share them",
    )
    one_process: bool = Field(
        default=True, description="CPU only, with all cores: vLLM's scheduler and model in one process"
    )
    gpu_memory_utilization: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="GPU only; the rest is for training on the same device. Default: 0.45, or 0.9 with METEOR_DEVICE_SHARING=time",
    )
    sleep: bool = Field(
        default=True,
        description="with METEOR_DEVICE_SHARING=time: sleep during a training where vLLM can, instead of a restart after it",
    )
    kv_cache_dtype: Literal["auto", "fp8", "fp8_e4m3", "fp8_e5m2"] = Field(
        default="auto",
        description="of the cached keys and values; fp8 holds twice as many tokens as 16 bits, less exactly",
    )
    quantization: Literal["", "fp8"] = Field(
        default="",
        description="fp8: the base's weights in 8 bits, made when they are loaded; only on a GPU that computes in fp8",
    )
    speculative_tokens: int = Field(
        default=0,
        ge=0,
        le=32,
        description="tokens that are guessed from the text so far and checked in one step (n-gram speculation); 0: none",
    )
    prompt_lookup_min: int = Field(default=2, ge=1, le=32, description="shortest run of tokens that a guess follows")
    prompt_lookup_max: int = Field(default=4, ge=1, le=32, description="longest run of tokens that a guess follows")
    probe: bool = Field(
        default=True,
        description="ask a fixed prompt after each start, waking and load of an adapter, and restart an engine that answers otherwise "
        "than at first",
    )

    tool_call_parser: str = Field(
        default="",
        description="vLLM's name for the model's format of tool calls, such as hermes; empty: by the chat template; none: no "
        "parser, so that tool_choice auto gives text",
    )
    lora: bool = True
    max_lora_rank: int = Field(default=16, ge=1)
    max_loras: int = Field(default=2, ge=1, description="adapters in one batch: the served one and its challenger")
    adapters: Path | None = Field(
        default=None, description="the folder of adapters by content hash; default: serving/ in the data folder"
    )

    start_timeout: timedelta = timedelta(minutes=15)
    attempts: int = Field(default=3, ge=1, description="failed starts in a row before the engine gives up")
    pause: timedelta = Field(default=timedelta(seconds=1), description="before another start; doubles up to max_pause")
    max_pause: timedelta = timedelta(seconds=30)
    silence: timedelta = Field(
        default=timedelta(minutes=2),
        description="a running server that answers no health check for so long is replaced",
    )

    @model_validator(mode="after")
    def _lookups_are_in_order(self) -> Self:
        if self.prompt_lookup_min > self.prompt_lookup_max:
            raise ValueError("METEOR_ENGINE_PROMPT_LOOKUP_MIN is larger than METEOR_ENGINE_PROMPT_LOOKUP_MAX")
        return self


@lru_cache
def weak_settings() -> WeakSettings:
    return WeakSettings()


@lru_cache
def engine_settings() -> EngineSettings:
    return EngineSettings()
