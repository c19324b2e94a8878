"""The job as users post and read it: OpenAI's fine-tuning shapes plus one nested `distillation` object."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from shared.contracts.distillation import NO_NUL, Budget, Distillation, Hyperparameters, Name, Strict
from shared.contracts.errors import ErrorBody
from shared.contracts.estimate import Estimate


class JobStatus(StrEnum):
    VALIDATING = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64, pattern=NO_NUL)], Annotated[str, Field(max_length=512, pattern=NO_NUL)]],
    Field(max_length=16),
]


class JobRequest(Strict):
    """Body of POST /v1/distillation/jobs. suffix names the alias under which the result is served."""

    model: str = Field(min_length=1, max_length=200)
    training_file: str = Field(min_length=1, max_length=64)
    distillation: Distillation
    suffix: Name = "expert"
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    hyperparameters: Hyperparameters = Hyperparameters()
    metadata: Metadata = Field(default={})


class DistillationChange(Strict):
    """budget: what it leaves out stays as it is, null takes a limit away."""

    budget: Budget = Budget()


class JobChange(Strict):
    """Body of PATCH /v1/distillation/jobs/{id}: all that may be changed of a job that exists."""

    distillation: DistillationChange = DistillationChange()
    metadata: Metadata | None = None


class JobProgress(BaseModel):
    """done and total in seconds of estimated work; eta_seconds None until the first step has ended."""

    percent: float = 0.0
    done: float = 0.0
    total: float = 0.0
    eta_seconds: float | None = None


class Usage(BaseModel):
    """Calls to the strong model, by the ledger.

    usd_reserved: the most that calls cost whose price is not known: those on their way, and those that ended without a
    count (lost, timed out, cut). usd_saved_by_cache: what cached calls would have cost at their provider's prices.
    """

    teacher_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_calls: int = 0
    usd_spent: float = 0.0
    usd_reserved: float = 0.0
    usd_saved_by_cache: float = 0.0


class JobDistillation(Distillation):
    """The effective configuration together with where the job stands."""

    phase: str | None = None
    status_reason: str | None = None
    progress: JobProgress = JobProgress()
    usage: Usage = Usage()
    estimate: Estimate | None = None
    evaluation_result: dict[str, Any] | None = Field(default=None, serialization_alias="evaluation_result")


class JobObject(BaseModel):
    """`fine_tuning.job` as OpenAI's client parses it, plus `distillation`."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None = None
    estimated_finish: int | None = None
    model: str
    fine_tuned_model: str | None = None
    organization_id: str
    status: JobStatus
    error: ErrorBody | None = None
    hyperparameters: Hyperparameters
    method: dict[str, Any] | None = None
    training_file: str
    validation_file: str | None = None
    result_files: list[str] = []
    seed: int
    suffix: str
    trained_tokens: int | None = None
    integrations: list[Any] = []
    metadata: dict[str, str] = {}
    distillation: JobDistillation


class EventObject(BaseModel):
    """`fine_tuning.job.event`. type is one of OpenAI's two; `event` is ours: message, metrics, status or phase."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"] = "message"
    event: str = "message"
    data: dict[str, Any] | None = None


class FileObject(BaseModel):
    """`file` with the number of rows and their split, once checked. status: uploaded, processed or error."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str
    status_details: str | None = None
    n_rows: int | None = None
    splits: dict[str, int] | None = None


class ModelObject(BaseModel):
    """`model`: a base, an alias or alias@version. parent: the base an adapter was trained on; version: of its alias."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    parent: str | None = None
    version: int | None = None
