"""Whether a started process works: it answers or writes heartbeats, and it is the process that was started."""

from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from services.local.supervisor import broker, ports
from shared.platform.http_client import internal_sync_client
from shared.platform.settings import PlatformSettings

Ready = Callable[[set[int]], bool]  # given the pids of the process and its children


def readiness(data: Path, name: str, common: Mapping[str, str], port: int | None) -> Ready:
    """How it is seen that a process works. port: where it answers, None: it writes heartbeats instead."""
    if name == "broker":
        return lambda _: broker.answers(common["REDIS_URL"])
    if port is not None:
        return http_readiness(port, "/health" if name.endswith("engine") else "/healthz")
    from services.local.supervisor.databases import (
        has_beaten,  # here: it loads SQLAlchemy, and most commands start nothing
    )

    platform = platform_of(data, common)
    return lambda pids: has_beaten(platform, pids)


def platform_of(data: Path, environment: Mapping[str, str]) -> PlatformSettings:
    url = environment.get("DATABASE_URL") or environment.get("METEOR_DATABASE_URL")
    return PlatformSettings.model_validate({"data": data, "database_url": url})


def http_readiness(port: int, path: str) -> Ready:
    """Answers with 200, and it is our process that does."""
    client = internal_sync_client(timeout_s=2)  # one for all checks: creating a client costs more than a check

    def ready(pids: set[int]) -> bool:
        try:
            if client.get(f"http://{ports.LOOPBACK}:{port}{path}").status_code != 200:
                return False
        except httpx.HTTPError:
            return False
        return ports.listens(port, pids)

    return ready
