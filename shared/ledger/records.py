"""What the ledger's stores return: one frozen dataclass per table of tables.py, with a field per column, in the columns' order."""

from pydantic.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallRecord:
    id: str
    project_id: str
    job_id: str | None
    step_id: str | None
    phase: str | None
    example_id: str | None
    provider: str
    model: str
    request_hash: str
    state: str
    outcome: str | None
    cached: bool
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    usd: float
    reserved_usd: float
    reserved_tokens: int
    saved_usd: float
    latency_ms: float | None
    error: str | None
    created_at: float
    settled_at: float | None
    batch_id: str | None
    key_id: str | None
    gateway: str | None
    flight: str | None


@dataclass(frozen=True, slots=True)
class BatchRecord:
    id: str
    project_id: str
    job_id: str
    provider: str
    state: str
    remote_file: str | None
    remote_id: str | None
    remote_status: str | None
    asked: int
    requests: int
    bytes: int
    answered: int
    error: str | None
    not_before: float
    created_at: float
    added_at: float
    ended_at: float | None
    uploads: int
    leftover: list[str] | None


@dataclass(frozen=True, slots=True)
class AccountRecord:
    id: str
    key_id: str | None
    max_usd: float | None
    max_tokens: int | None
    max_calls: int | None
    usd: float
    tokens: int
    calls: int
    held_usd: float
    held_tokens: int
    held_calls: int
