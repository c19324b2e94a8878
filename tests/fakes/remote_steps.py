"""A training step's attempts on machines that share an object storage, without a database: contexts as a worker makes them."""

from pathlib import Path

from shared.artifacts.opening import open_artifacts
from shared.contracts.step_kinds import step_request
from shared.contracts.steps import StepKind, StepRequest
from shared.jobs.step_store import Claim
from shared.platform.settings import PlatformSettings
from shared.queue.step_task import StepContext
from tests.fakes.training import EXAMPLES, train_params

STEP = "step-0123"


def host(folder: Path, name: str = "worker") -> PlatformSettings:
    """A machine of its own; the storage is a folder that all of them mount."""
    return PlatformSettings(
        data=folder / name, artifacts_url=f"file://{(folder / 'objects').resolve()}", disk_floor_gb=0
    )


def request_of(epochs: int = 4, copies: int = 1) -> StepRequest:
    """Of 8 rows for each copy, one row a step."""
    rows = [row | {"id": f"{row['id']}-{copy}"} for copy in range(copies) for row in EXAMPLES]
    return step_request(StepKind.SFT, train_params(epochs=epochs, batch_size=1, learning_rate=1e-3), rows)


def attempt(
    settings: PlatformSettings, number: int, request: StepRequest | None = None, step: str = STEP
) -> StepContext:
    """Its request is among the artifacts."""
    artifacts = open_artifacts(settings)
    digest = artifacts.put_json((request or request_of()).model_dump(mode="json"))
    return StepContext(
        Claim(step, "job-1", "default", "distill/train", StepKind.SFT, digest, number), settings, artifacts
    )
