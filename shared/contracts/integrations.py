"""Where a job's metrics are sent beside METEOR: OpenAI's field `integrations`, and two more types.

A request names a project, never an address or a key: the orchestrator's environment has those.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.distillation import Strict
from shared.contracts.json_types import Json

NAME = r"^[\w .:/@+-]+$"  # no control characters
Label = Annotated[str, Field(min_length=1, max_length=128, pattern=NAME)]
MOST = 3


class IntegrationType(StrEnum):
    WANDB = "wandb"
    MLFLOW = "mlflow"
    TRACKIO = "trackio"


class Sent(StrEnum):
    """How an attempt to send ended."""

    SENT = "sent"
    FAILED = "failed"


class WandbRun(Strict):
    project: Label
    name: Label | None = None
    entity: Label | None = None
    tags: list[Label] | None = Field(default=None, max_length=16)


class MlflowRun(Strict):
    """project: the experiment."""

    project: Label
    name: Label | None = None
    tags: list[Label] | None = Field(default=None, max_length=16)


class TrackioRun(Strict):
    project: Label
    name: Label | None = None


class WandbIntegration(Strict):
    """OpenAI's."""

    type: Literal["wandb"]
    wandb: WandbRun


class MlflowIntegration(Strict):
    type: Literal["mlflow"]
    mlflow: MlflowRun


class TrackioIntegration(Strict):
    type: Literal["trackio"]
    trackio: TrackioRun


Integration = Annotated[WandbIntegration | MlflowIntegration | TrackioIntegration, Field(discriminator="type")]


def run_of(integration: WandbIntegration | MlflowIntegration | TrackioIntegration) -> Json:
    """What the request says of the run."""
    return integration.model_dump(exclude_none=True)[integration.type]
