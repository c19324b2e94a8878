"""Where a job's metrics are sent beside METEOR: OpenAI's field `integrations`, and two more types."""

from enum import StrEnum


class IntegrationType(StrEnum):
    WANDB = "wandb"
    MLFLOW = "mlflow"
    TRACKIO = "trackio"


class Sent(StrEnum):
    """How an attempt to send ended."""

    SENT = "sent"
    FAILED = "failed"
