"""Settings that every process shares. Each service adds its own class with its own prefix.

All of them come from the environment (or the .env beside docker-compose.yml); the local runner sets them for its children.
"""

from datetime import timedelta
from functools import cached_property, lru_cache
from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contracts.device import DeviceSharing
from shared.platform.object_url import checked_url
from shared.platform.public_addresses import Network, networks_of


class PlatformSettings(BaseSettings):
    """Where things live and how patient the durable steps are.

    METEOR_DATA: one folder for database, artifacts, adapters, logs, broker.  DATABASE_URL: SQLAlchemy URL (default:
    SQLite in the data folder).  REDIS_URL: the broker (the local runner starts one when it is not set).
    """

    model_config = SettingsConfigDict(
        env_prefix="METEOR_", extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    data: Path = Path(".meteor")
    database_url: str | None = Field(default=None, validation_alias=AliasChoices("DATABASE_URL", "METEOR_DATABASE_URL"))
    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0", validation_alias=AliasChoices("REDIS_URL", "METEOR_REDIS_URL")
    )
    key_prefix: str = Field(
        default="meteor:", description="before every Redis key, so that several systems may share one server"
    )
    internal_token: SecretStr = Field(
        default=SecretStr(""), description="between services; the runner makes one per data folder"
    )
    api_key_secret: SecretStr = Field(
        default=SecretStr(""), description="keys the hashes of API keys; empty: a file of the data folder does"
    )
    providers_file: Path | None = Field(
        default=None, description="more strong models by name, TOML or JSON; read by the gateway and the local runner"
    )
    ca_bundle: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("METEOR_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
        description="certificates (a file or a folder) that are trusted beside the usual ones",
    )
    artifacts_url: str = Field(
        default="",
        description="s3://, gs://, az:// or file://: artifacts, uploads and checkpoints lie there, and the data folder holds copies",
    )
    artifacts_cache_gb: float = Field(
        default=20.0, gt=0, description="with METEOR_ARTIFACTS_URL: so much of it is kept on this machine's disk"
    )
    lease: timedelta = timedelta(seconds=12)
    renew: timedelta = timedelta(seconds=4)
    resend_after: timedelta = Field(
        default=timedelta(seconds=30), description="a sent step that nobody claimed is sent again"
    )
    max_attempts: int = Field(default=4, ge=1)
    device_sharing: DeviceSharing = Field(
        default=DeviceSharing.MEMORY,
        description="memory: engine and training use one device at once, each in its part; time: a training has all of it while the "
        "engine sleeps",
    )
    disk_floor_gb: float = Field(default=0.5, ge=0, description="so much stays free: steps wait when there is less")
    retention: timedelta = Field(
        default=timedelta(days=30), description="the results of an ended job are kept for so long; zero: forever"
    )
    audit_retention: timedelta = Field(
        default=timedelta(days=365), description="entries of the audit log are kept for so long; zero: forever"
    )
    chat_retention: timedelta = Field(
        default=timedelta(days=30), description="stored chats and their feedback are kept for so long; zero: forever"
    )
    sandbox: bool = Field(
        default=False, description="code of users and models (graders `python` and `code_tests`) is run, confined"
    )
    grader_allow: str = Field(
        default="",
        description="networks (10.0.0.0/8, ...) that `endpoint` graders may lead to although they are not public",
    )
    graders: str = Field(
        default="",
        description="names of third-party graders (entry points `meteor.graders`) whose code may run, separated by commas",
    )
    integrations: str = Field(
        default="",
        description="where jobs may send their metrics: wandb, mlflow, trackio, separated by commas; their keys and addresses are "
        "the libraries' own variables of the orchestrator",
    )
    integrations_python: str = Field(
        default="", description="an interpreter that has these libraries, for the orchestrator; empty: its own"
    )
    log_level: str = "INFO"
    log_json: bool = False

    @field_validator("grader_allow")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        networks_of(value)
        return value

    @field_validator("artifacts_url")
    @classmethod
    def _is_object_url(cls, value: str) -> str:
        return checked_url(value) if value else value

    @cached_property
    def grader_networks(self) -> tuple[Network, ...]:
        return networks_of(self.grader_allow)

    @cached_property
    def grader_plugins(self) -> frozenset[str]:
        """Names of the third-party graders that the operator allows."""
        return frozenset(name.strip() for name in self.graders.split(",")) - {""}

    @cached_property
    def integration_types(self) -> frozenset[str]:
        return frozenset(name.strip() for name in self.integrations.split(",")) - {""}

    @cached_property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{(self.data / 'meteor.sqlite3').resolve()}"

    @cached_property
    def ledger_database(self) -> str:
        """SQLite takes one writer at a time, so there the ledger has a file of its own."""
        return self.database_url or f"sqlite:///{(self.data / 'ledger.sqlite3').resolve()}"

    @property
    def is_alone(self) -> bool:
        """All work is done on this machine: a worker on another one cannot reach an SQLite file."""
        return self.database.startswith("sqlite")

    @property
    def disk_floor(self) -> int:
        """Bytes."""
        return int(self.disk_floor_gb * 1e9)

    @property
    def files(self) -> Path:
        """Uploaded bytes, each under its SHA-256."""
        return self.data / "files"

    @property
    def artifacts(self) -> Path:
        """Of artifacts, or of the copies of those that lie on object storage: no copy is ever taken for the only one."""
        return self.data / ("cache/artifacts" if self.artifacts_url else "artifacts")

    @property
    def artifacts_cache(self) -> int:
        """Bytes."""
        return int(self.artifacts_cache_gb * 1e9)

    @property
    def serving(self) -> Path:
        """The folder that vLLM's filesystem resolver looks into: one sub-folder per adapter, named by content hash."""
        return self.data / "serving"


@lru_cache
def platform_settings() -> PlatformSettings:
    return PlatformSettings()
