"""GET /v1/system: the processes, the queues, and how calls to strong models end."""

from typing import Literal

from pydantic import BaseModel


class ProcessObject(BaseModel):
    """A process that sends heartbeats. slots: steps, or jobs of an orchestrator, that it runs at once. seen_at: its last heartbeat. state:
    lost, if the heartbeats stopped without a sign-off."""

    id: str
    object: Literal["process"] = "process"
    service: str
    queue: str | None
    slots: int
    state: Literal["alive", "stopping", "lost"]
    seen_at: int


class QueueObject(BaseModel):
    """slots: of the processes that serve it. steps: their number by state, of all projects."""

    id: str
    object: Literal["queue"] = "queue"
    slots: int
    steps: dict[str, int]


class ProviderCalls(BaseModel):
    """Calls of the last hour to one provider, by how they ended. error: the newest one's text, and error_at its time."""

    id: str
    object: Literal["provider.calls"] = "provider.calls"
    outcomes: dict[str, int]
    latency_ms: float | None = None
    error: str | None = None
    error_at: int | None = None


class SystemObject(BaseModel):
    """jobs: their number by status, of all projects."""

    object: Literal["system"] = "system"
    processes: list[ProcessObject]
    queues: list[QueueObject]
    jobs: dict[str, int]
    calls: list[ProviderCalls]
