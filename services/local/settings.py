"""What the local runner and the model preparation read from the environment."""

from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_cache_path
from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFERRED_API_PORT = 8000


class LocalSettings(BaseSettings):
    """One machine, everything on it. Ports that are not given are picked among the free ones."""

    model_config = SettingsConfigDict(
        env_prefix="METEOR_", extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    models: Path = Field(
        default_factory=lambda: user_cache_path("meteor") / "models",
        description="prepared models, shared by all clones and data folders of one user",
    )
    api_port: int | None = Field(default=None, ge=1, le=65535)
    student_model: str = Field(
        default="smollm2-135m-instruct", description="the weak model: a name of the catalogue, a folder or a hub id"
    )
    students: str = Field(
        default="",
        description="more weak models, separated by commas: names of the catalogue, folders or hub ids, each also as NAME=...",
    )
    student_path: Path | None = Field(default=None, description="its folder, when it is prepared already")
    teacher_model: str = Field(
        default="qwen2.5-coder-0.5b-instruct",
        description="the strong model: as above, or the provider's name for it when METEOR_TEACHER_BASE_URL is set",
    )
    teacher_base_url: str = Field(default="", description="set: no teacher engine is started here")
    providers_file: Path | None = Field(
        default=None, description="more strong models by name; its secrets go to the gateway"
    )
    weak_engine_url: str = Field(default="", description="set: a vLLM elsewhere serves the student, none starts here")
    weak_engine_control_url: str = Field(
        default="", description="its control port, where METEOR_WEAK_ENGINE_URL is an engine process of ours elsewhere"
    )
    redis_url: str = Field(
        default="",
        validation_alias=AliasChoices("REDIS_URL", "METEOR_REDIS_URL"),
        description="set: no broker is started here",
    )
    ready_timeout_s: float = Field(
        default=900.0, gt=0, description="an engine needs 45-130 s on two free cores, minutes on busy ones"
    )

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "LocalSettings":
        """The settings that a process with this environment would have."""
        given = {name: environment.get(f"METEOR_{name.upper()}") for name in cls.model_fields}
        given["redis_url"] = environment.get("REDIS_URL") or given["redis_url"]
        return _Given.model_validate({name: value for name, value in given.items() if value})


class _Given(LocalSettings):
    """Made of what it is given alone; this process's own environment does not count."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)
