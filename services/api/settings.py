"""Settings of the API, prefix METEOR_API_."""

import hashlib
import re
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.contracts.data import DEV_SHARE, TEST_SHARE
from shared.platform.public_addresses import Network, networks_of

ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-fA-F:]+\](:\d{1,5})?")


class ApiSettings(BaseSettings):
    """METEOR_API_KEYS: comma separated; only their SHA-256 hashes are kept."""

    model_config = SettingsConfigDict(
        env_prefix="METEOR_API_", extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    keys: Annotated[frozenset[str], NoDecode] = frozenset()
    metrics_token: SecretStr = Field(
        default=SecretStr(""), description="opens /metrics and nothing else, beside the operator's keys; for Prometheus"
    )
    engine_url: str = Field(default="http://127.0.0.1:8101", description="vLLM's address, without /v1")
    gateway_url: str = Field(
        default="http://127.0.0.1:8200", description="the strong-model gateway: its providers and their prices"
    )
    engine_control_url: str = Field(
        default="",
        description="the engine's control port; empty: a server of the user's own, which serves the default student alone",
    )
    engine_connect_s: float = Field(default=5.0, gt=0)
    engine_read_s: float = Field(default=600.0, gt=0, description="longest silence while the engine writes an answer")
    shadows: int = Field(
        default=4, ge=0, description="copies for shadow versions on their way at once; more are dropped"
    )
    store_chats: bool = Field(
        default=True, description="chats are stored where a request or a capture asks for it; false: none is"
    )
    store_mask: bool = Field(default=False, description="personal data is masked in every chat before it is stored")
    store_chat_bytes: int = Field(
        default=256 * 2**10, ge=1024, description="longest chat that is stored: request and answer as JSON"
    )
    store_project_bytes: int = Field(
        default=2 * 2**30, ge=1024, description="room of a project's stored chats; the oldest make room for new ones"
    )
    store_waiting: int = Field(
        default=1000, ge=1, description="chats that wait to be written; further ones are counted and not stored"
    )
    max_rank: int = Field(
        default=16,
        ge=1,
        validation_alias=AliasChoices("METEOR_ENGINE_MAX_LORA_RANK"),
        description="largest adapter rank that the engine serves; a job that asks for more is refused",
    )
    max_model_len: int = Field(
        default=2048,
        ge=16,
        validation_alias=AliasChoices("METEOR_ENGINE_MAX_MODEL_LEN"),
        description="tokens of question and answer that the engine takes; rows that are longer are told when a job is posted",
    )
    engine_gpu_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        validation_alias=AliasChoices("METEOR_ENGINE_GPU_MEMORY_UTILIZATION"),
        description="of a GPU's memory, for the student's engine; the rest is for training on the same device. Default: 0.45, or 0.9 with "
        "METEOR_DEVICE_SHARING=time",
    )
    trainer_gpus: str = Field(
        default="",
        validation_alias=AliasChoices("METEOR_TRAINER_GPUS"),
        description="of the trainer on this machine; several hold a base in parts that does not fit on one",
    )
    upload_bytes: int = Field(default=512 * 2**20, ge=1, description="longest file that may be uploaded")
    body_bytes: int = Field(default=8 * 2**20, ge=1024, description="longest JSON body")
    body_values: int = Field(default=50_000, ge=1000, description="most values in a JSON body, at whatever depth")
    headers_s: float = Field(default=10.0, gt=0, description="until a request's headers must be complete")
    body_idle_s: float = Field(default=60.0, gt=0, description="longest silence within a request's body")
    keep_alive_s: int = Field(
        default=75,
        ge=1,
        description="how long an idle connection stays open; longer than clients and proxies keep theirs, so that they close first",
    )
    max_rows: int = Field(default=1_000_000, ge=1, description="longest dataset, in rows")
    dev_share: float = Field(default=DEV_SHARE, ge=0, lt=1)
    test_share: float = Field(default=TEST_SHARE, ge=0, lt=1)
    gguf_converter: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("METEOR_GGUF_CONVERTER"),
        description="llama.cpp's convert_hf_to_gguf.py; without it no GGUF is exported",
    )
    hub_token: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("HF_TOKEN"),
        description="whether exports can be pushed; the trainer does it, with the same variable",
    )
    events_poll_s: float = Field(
        default=0.25, gt=0, description="how often the store is looked into for all event streams"
    )
    events_ping_s: float = Field(default=15.0, gt=0)
    events_stall_s: float = Field(
        default=60.0, gt=0, description="a stream whose reader takes nothing for so long is ended"
    )
    events_streams: int = Field(default=2000, ge=1, description="event streams that may be open at once")
    webhook_allow: str = Field(
        default="", description="networks (10.0.0.0/8, ...) that webhooks may lead to although they are not public"
    )
    webhook_key: SecretStr = Field(
        default=SecretStr(""),
        description="webhooks' secrets are derived with it; empty: a file of the data folder does",
    )

    @field_validator("webhook_allow")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        networks_of(value)
        return value

    @cached_property
    def webhook_networks(self) -> tuple[Network, ...]:
        return networks_of(self.webhook_allow)

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()

    @field_validator("engine_gpu_share", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: Any) -> Any:
        """Comma separated; an origin has a scheme, a host and perhaps a port, and nothing behind them."""
        if not isinstance(value, str):
            return value
        origins = tuple(origin.strip() for origin in value.split(",") if origin.strip())
        for origin in origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin; write https://host or https://host:port")
        return origins

    @field_validator("keys", mode="before")
    @classmethod
    def _only_hashes(cls, value: Any) -> Any:
        if isinstance(value, str):
            return frozenset(key_hash(key.strip()) for key in value.split(",") if key.strip())
        return value

    @field_validator("engine_url", "engine_control_url", "gateway_url")
    @classmethod
    def _no_slash_at_the_end(cls, value: str) -> str:
        return value.rstrip("/")


def key_hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@lru_cache
def api_settings() -> ApiSettings:
    return ApiSettings()
