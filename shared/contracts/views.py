"""What routes answer with beside jobs: lists, receipts, files, models, and looks inside a job."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

from shared.contracts.data import LineError, Question
from shared.contracts.distillation import Budget
from shared.contracts.engine import EngineStatus
from shared.contracts.errors import ErrorBody
from shared.contracts.file_reading import FileReading
from shared.contracts.generation import GREEDY, Generation
from shared.contracts.jobs import Usage
from shared.contracts.json_types import Json

Item = TypeVar("Item")


class Listed(BaseModel, Generic[Item]):
    """One page, newest first. Go on with `after` = last_id while has_more is true."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        return f"{params[0].__name__}List"


class Deleted(BaseModel):
    id: str
    object: str
    deleted: Literal[True] = True


class LineErrors(BaseModel):
    """has_more: there are bad lines behind the last one that is told."""

    object: Literal["list"] = "list"
    data: list[LineError]
    has_more: bool


class FileObject(BaseModel):
    """`file` with the number of rows and their split, once checked. status: uploaded, processed or error.

    version: of the dataset whose first version is `dataset`, made from `previous`; null for what is no dataset.
    expires_at: when it is deleted by itself; null: never. reading: how a dataset was read; null for other files and for those of before it was recorded.
    """

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: str
    status_details: str | None = None
    n_rows: int | None = None
    splits: dict[str, int] | None = None
    dataset: str | None = None
    version: int | None = None
    previous: str | None = None
    reading: FileReading | None = None


class FileVerdict(BaseModel):
    """n_rows: good rows, as far as the file was read. ignored_fields: what is not read, and in how many rows it stands."""

    valid: bool
    n_rows: int
    errors: LineErrors
    ignored_fields: dict[str, int]
    reading: FileReading | None = None


class EventObject(BaseModel):
    """`fine_tuning.job.event`. type is one of OpenAI's two; `event` is ours: message, metrics, status, phase or budget."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"] = "message"
    event: str = "message"
    data: Json | None = None


class CheckpointMetrics(BaseModel):
    """step: the training's last optimiser step. train_loss: the mean over its last quarter of steps."""

    step: int
    train_loss: float | None = None


class CheckpointObject(BaseModel):
    """`fine_tuning.job.checkpoint`: a version of the job's that can be asked. step: the training that made it.

    step_number: optimiser steps of all the job's trainings up to there. state: promoted, undecided, rejected or partial.
    Once the job's steps were let go of (METEOR_RETENTION), step is null and step_number 0.
    """

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: CheckpointMetrics
    step: str | None
    state: str


class JobUsage(BaseModel):
    """Calls to the strong model, in all and by phase; a phase without a call has no entry.

    counted: what the budget counts, reservations included; null before the job's first step.
    """

    object: Literal["distillation.usage"] = "distillation.usage"
    job_id: str
    budget: Budget
    counted: dict[str, float] | None
    total: Usage
    phases: dict[str, Usage]


class StepObject(BaseModel):
    """A step of a job. attempts: what ended each earlier attempt. reused_from: the step whose result this one has;
    taken_over_from: that step's job. Times in seconds since 1970."""

    object: Literal["distillation.step"] = "distillation.step"
    id: str
    key: str
    kind: str
    queue: str
    state: str
    attempt: int
    attempts: list[Any]
    progress: Json
    metrics: Json
    reused_from: str | None
    taken_over_from: str | None = None
    error: ErrorBody | None
    created_at: float
    started_at: float | None
    finished_at: float | None


class MetricsObject(BaseModel):
    """The figures of one step: of a finished one all that its worker counted, of a running one what it has told so far.

    id: the step's. done and total: of the step's own work, null before it has said anything.
    """

    object: Literal["distillation.metrics"] = "distillation.metrics"
    id: str
    step: str
    phase: str
    kind: str
    state: str
    done: float | None
    total: float | None
    values: Json
    finished_at: float | None


class ExampleObject(Question):
    """A row of the job's file. split: the side that it stands on."""

    object: Literal["distillation.example"] = "distillation.example"


class LineageModel(BaseModel):
    """A version that learned from the example."""

    model: str
    adapter: str
    method: str
    state: str
    served: bool


class LineageObject(BaseModel):
    """One example's way through a job. chain: every step that it went into, in time, with what was given and made there."""

    object: Literal["distillation.lineage"] = "distillation.lineage"
    job_id: str
    example: Question
    chain: list[Json]
    adapters: list[str]
    models: list[LineageModel]


class ModelObject(BaseModel):
    """`model`: a base, an alias or alias@version. parent: the base an adapter was trained on; version: of its alias; continues:
    the version that its training went on from; job: the one that made it; state: promoted, undecided, rejected or partial.

    generation: how it answers where the request does not say, which is how it was evaluated.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    parent: str | None = None
    version: int | None = None
    continues: str | None = None
    job: str | None = None
    state: str | None = None
    generation: Generation = GREEDY


class ModelDeleted(BaseModel):
    """id: as it was named."""

    id: str
    object: Literal["model"] = "model"
    deleted: bool = True


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """checks: part -> whether it is there; missing: those that are not. lost: processes that ended without signing off.

    error: with status 503 only.
    """

    status: Literal["ready", "not_ready"]
    missing: list[str]
    checks: dict[str, bool]
    lost: list[str]
    engine: EngineStatus | None = None
    error: ErrorBody | None = None
