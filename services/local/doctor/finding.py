"""A check of the doctor, and the installation that it checks."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from services.local.settings import LocalSettings
from shared.platform import run_state
from shared.platform.run_state import RunState
from shared.platform.settings import PlatformSettings


class Health(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """message: what was observed. fix: what to do about it; empty where nothing is to be done."""

    name: str
    health: Health
    message: str
    fix: str = ""


def bearer(token: str) -> dict[str, str]:
    """Headers for our own services; none where there is no token yet, as before the first start."""
    return {"authorization": f"Bearer {token}"} if token else {}


def ok(name: str, message: str) -> Finding:
    return Finding(name, Health.OK, message)


def warn(name: str, message: str, fix: str) -> Finding:
    return Finding(name, Health.WARN, message, fix)


def fail(name: str, message: str, fix: str) -> Finding:
    return Finding(name, Health.FAIL, message, fix)


@dataclass(frozen=True)
class Installation:
    """run: of the data folder, None when nothing runs there. stale: a run that ended without cleaning up."""

    data: Path
    environment: Mapping[str, str]
    local: LocalSettings
    platform: PlatformSettings
    run: RunState | None
    stale: RunState | None

    @classmethod
    def of(cls, data: Path, environment: Mapping[str, str]) -> "Installation":
        """Raises pydantic's ValidationError for settings that cannot be read."""
        last_run = run_state.read(data)
        alive = last_run is not None and last_run.alive
        return cls(
            data,
            environment,
            LocalSettings.of(environment),
            PlatformSettings(data=data),
            last_run if alive else None,
            None if alive else last_run,
        )

    @property
    def token(self) -> str:
        """The internal token; empty where there is none yet."""
        path = run_state.token_path(self.data)
        given = self.platform.internal_token.get_secret_value()
        return given or (path.read_text().strip() if path.exists() else "")

    def url(self, name: str, variable: str) -> str:
        """Where a process listens: of this run, else by its variable; empty if unknown."""
        return (self.run.urls.get(name, "") if self.run else "") or self.environment.get(variable, "").rstrip("/")
