"""What a job leaves behind, read from the stores and artifacts once it has ended: plain data for checks and figures."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import or_, select

from shared.artifacts.store import Artifacts
from shared.db.engine import reading
from shared.jobs.schema import Stores
from shared.jobs.states import StepState
from shared.ledger.store import Ledger
from shared.ledger.tables import calls
from tests.chaos.fleet import Fleet
from tests.chaos.schedule import Strike


@dataclass
class Step:
    """row: as in the table. request, result: the artifacts. weights: SHA-256 of what was trained, where it was."""

    row: dict[str, Any]
    request: dict[str, Any]
    result: dict[str, Any]
    weights: str | None


@dataclass
class Struck:
    """A strike as it came about. at: seconds since the job was posted. in_flight: calls to the teacher that were open."""

    strike: Strike
    at: float
    in_flight: int


@dataclass
class Outcome:
    """job: its row. log: what the provider saw arrive. leftovers: files that killed writers left to the collector."""

    job: dict[str, Any]
    report: dict[str, Any]
    steps: dict[str, Step]
    ledger: list[dict[str, Any]]
    log: list[dict[str, Any]]
    struck: list[Struck] = field(default_factory=list)
    leftovers: int = 0

    @property
    def seconds(self) -> float:
        """From posting to the end."""
        return self.job["finished_at"] - self.job["created_at"]

    @property
    def finish_times(self) -> list[float]:
        """Of all steps, in seconds since the job was posted, in order."""
        return sorted(step.row["finished_at"] - self.job["created_at"] for step in self.steps.values())


def collect(fleet: Fleet, job_id: str, log: list[dict[str, Any]]) -> Outcome:
    """Everything of a job that has ended."""
    return read_outcome(fleet.stores, fleet.ledger, Artifacts(fleet.data / "artifacts"), job_id, log)


def read_outcome(
    stores: Stores, ledger: Ledger, artifacts: Artifacts, job_id: str, log: list[dict[str, Any]]
) -> Outcome:
    job = stores.jobs.get(job_id)
    assert job is not None
    steps = {row.key: _step(artifacts, asdict(row)) for row in stores.steps.of_job(job_id)}
    with reading(ledger.engine) as connection:
        mine = or_(calls.c.job_id == job_id, calls.c.job_id.is_(None))  # the checks when it was posted belong to no job
        rows: list[dict[str, Any]] = [dict(row._mapping) for row in connection.execute(select(calls).where(mine))]
    report = artifacts.get_json(job.report_ref) if job.report_ref else {}
    return Outcome(asdict(job), report, steps, rows, log)


def _step(artifacts: Artifacts, row: dict[str, Any]) -> Step:
    request = artifacts.get_json(row["input_hash"])
    result = artifacts.get_json(row["result_ref"]) if row["state"] == StepState.SUCCEEDED else {}
    adapter = result.get("adapter")
    return Step(row, request, result, _weights(artifacts.folder(adapter)) if adapter else None)


def _weights(folder: Path) -> str:
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
