"""data/run.json: what runs, for `meteor status`, `meteor down` and whoever needs the addresses. It holds no secrets."""

import json
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from shared.contracts.errors import UserError


def identity(pid: int) -> tuple[int, float] | None:
    """(pid, creation time): together they name a process, pids alone are used again."""
    try:
        return pid, psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def is_alive(pid: int, created: float) -> bool:
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class NotRunning(UserError):
    code = "not_running"


class ProcessState(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    pid: int | None
    created: float
    state: str
    port: int | None
    restarts: int
    since: float
    log: str
    last_exit: int | None = None


class RunState(BaseModel):
    """supervisor: the process that keeps all others alive. ready: all processes are. remarks: the latest news."""

    model_config = ConfigDict(extra="ignore")

    supervisor: int
    created: float
    ready: bool
    processes: list[ProcessState]
    urls: dict[str, str]
    remarks: list[str] = []

    @property
    def alive(self) -> bool:
        return is_alive(self.supervisor, self.created)


def path(data: Path) -> Path:
    return data / "run.json"


def token_path(data: Path) -> Path:
    """The internal token of a data folder: whoever can read this file acts as the operator."""
    return data / "internal-token"


def read(data: Path) -> RunState | None:
    """The last state written; its supervisor may be gone. None when nothing ever ran here or it was stopped in order."""
    try:
        return RunState.model_validate(json.loads(path(data).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None


def api_url(data: Path) -> str:
    """The address of the API that runs on this data folder. Raises NotRunning."""
    state = read(data)
    if state is None or not state.alive or "api" not in state.urls:
        raise NotRunning(f"nothing runs on {data}; start it with `meteor up`")
    return state.urls["api"]
