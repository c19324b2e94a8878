"""What the stores return: one frozen dataclass per table of tables.py, with a field per column, in the columns' order.

JSON columns are parsed where their content has a model. `Json` stands where the shape depends on the row's kind.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator
from pydantic.dataclasses import dataclass

from shared.contracts.canary import CanaryRule, CanaryStanding, Outcome
from shared.contracts.data import LineError
from shared.contracts.distillation import Budget
from shared.contracts.errors import ErrorBody
from shared.contracts.estimate import Estimate, Price
from shared.contracts.evals import Criterion, CustomSource
from shared.contracts.file_reading import FileReading
from shared.contracts.generation import Generation
from shared.contracts.jobs import Failure, ForkedFrom, JobKind, JobProgress, JobStatus
from shared.contracts.json_types import Json
from shared.contracts.keys import Scope
from shared.contracts.notices import NoticeKind
from shared.contracts.recipes import FileSource, RecipeSource, RunStatus, Trigger
from shared.contracts.steps import Progress, Queue, StepKind
from shared.contracts.webhooks import DeliveryAttempt, WebhookEvent
from shared.jobs.states import StepState


class EndedAttempt(BaseModel):
    """An attempt of a step that failed or whose worker was lost. Times are Unix seconds."""

    attempt: int
    worker: str | None
    started_at: float | None
    ended_at: float
    error: ErrorBody


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    id: str
    name: str
    created_at: float
    requests_per_minute: int | None
    concurrent_jobs: int | None
    stored_bytes: int | None


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    id: str
    project_id: str
    name: str
    scopes: list[Scope]
    digest: str
    hint: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who asked for which change, and how it ended. object_id: what was changed, where that is known."""

    caller: str
    method: str
    route: str
    object_id: str | None
    status: int
    request_id: str


@dataclass(frozen=True, slots=True)
class AuditRecord:
    id: str
    project_id: str
    caller: str
    method: str
    route: str
    object_id: str | None
    status: int
    request_id: str
    created_at: float


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    project_id: str
    key: str
    digest: str
    status: int | None
    headers: dict[str, str] | None
    body: bytes | None
    created_at: float


@dataclass(frozen=True, slots=True)
class FileRecord:
    id: str
    project_id: str
    sha256: str
    bytes: int
    filename: str
    purpose: str
    status: str
    errors: list[LineError]
    n_rows: int | None
    splits: dict[str, int] | None
    rows_ref: str | None
    created_at: float
    reading: FileReading | None
    expires_at: float | None
    columns_ref: str | None = None
    dataset_id: str | None = None
    previous_id: str | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class JobRecord:
    id: str
    project_id: str
    kind: JobKind
    request: Json
    forked_from: ForkedFrom | None
    file_id: str | None
    result: Json | None
    status: JobStatus
    status_reason: str | None
    paused_after: str | None
    phase: str | None
    progress: JobProgress
    key_id: str | None
    prices: dict[str, Price] | None
    estimate: Estimate | None
    evaluation: Json | None
    report_ref: str | None
    fine_tuned_model: str | None
    trained_tokens: int | None
    error: ErrorBody | None
    failure: Failure | None
    attempt: int
    lease_owner: str | None
    lease_expires: float | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    traceparent: str | None = None
    incumbent: str | None = None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """phase, round, role, batch: the parts of the key, None in rows of older versions. progress: None before the first report."""

    id: str
    project_id: str
    job_id: str
    key: str
    phase: str | None
    round: int | None
    role: str | None
    batch: int | None
    kind: StepKind
    queue: Queue
    input_hash: str
    state: StepState
    attempt: int
    lease_owner: str | None
    lease_expires: float | None
    not_before: float
    progress: Annotated[Progress | None, BeforeValidator(lambda stored: stored or None)]
    metrics: Json
    result_ref: str | None
    reused_from: str | None
    error: ErrorBody | None
    attempts: list[EndedAttempt]
    created_at: float
    sent_at: float | None
    started_at: float | None
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class EventRecord:
    sequence: int
    project_id: str
    job_id: str
    level: Literal["info", "warn", "error"]
    type: str
    message: str
    data: Json | None
    created_at: float


@dataclass(frozen=True, slots=True)
class ModelRecord:
    id: str
    project_id: str
    alias: str
    version: int
    adapter: str
    method: str
    base: str
    base_hash: str
    state: str
    job_id: str | None
    created_at: float
    deleted_at: float | None
    generation: Annotated[Generation, BeforeValidator(lambda stored: stored or {})]
    continues: str | None


@dataclass(frozen=True, slots=True)
class CanaryRecord:
    project_id: str
    alias: str
    model_id: str
    percent: float
    shadow: bool
    created_at: float
    id: str | None = None
    rule: CanaryRule | None = None
    step: int | None = None
    step_times: list[float] | None = None
    next_look: float | None = None
    standing: CanaryStanding | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class NoticeRecord:
    id: str
    project_id: str
    kind: NoticeKind
    subject: str
    level: Literal["info", "warn", "error"]
    type: str
    message: str
    data: Json | None
    created_at: float


@dataclass(frozen=True, slots=True)
class RecipeRecord:
    id: str
    project_id: str
    key_id: str | None
    name: str
    job: Json
    source: RecipeSource
    trigger: Trigger
    budget: Budget | None
    paused_at: float | None
    look_at: float
    due_at: float | None
    rows_used: int
    runs: int
    created_at: float
    dataset_id: str | None

    @property
    def dataset(self) -> str | None:
        """A version of the dataset that its jobs learn from; None: its first import is still to make it."""
        return self.source.file if isinstance(self.source, FileSource) else self.dataset_id or self.source.dataset


@dataclass(frozen=True, slots=True)
class RecipeRunRecord:
    recipe_id: str
    number: int
    project_id: str
    status: RunStatus
    job_id: str
    file_id: str | None
    rows: int | None
    error: ErrorBody | None
    lease_owner: str | None
    lease_expires: float | None
    attempt: int
    created_at: float
    import_id: str | None


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    id: str
    project_id: str
    service: str
    queue: str | None
    slots: int
    stopping: bool
    seen_at: float


@dataclass(frozen=True, slots=True)
class TallyRecord:
    metric: str
    labels: str
    bucket: int
    project_id: str
    n: int
    amount: float


@dataclass(frozen=True, slots=True)
class IntegrationRecord:
    job_id: str
    type: str
    project_id: str
    sequence: int
    failures: int
    ended: bool
    next_at: float


@dataclass(frozen=True, slots=True)
class LabelRecord:
    id: str
    project_id: str
    digest: str
    question: str
    first: str
    second: str
    preferred: Literal["first", "second", "tie"]
    reference: str | None
    created_at: float
    deleted_at: float | None


@dataclass(frozen=True, slots=True)
class EvalRecord:
    id: str
    project_id: str
    name: str
    data_source: CustomSource
    criteria: list[Criterion]
    metadata: dict[str, str] | None
    created_at: float
    updated_at: float


def served_name(alias: str, version: int | None) -> str:
    """alias@version; of a base its name."""
    return alias if version is None else f"{alias}@{version}"


@dataclass(frozen=True, slots=True)
class ChatRecord:
    """masked: counts of masked personal data by kind; None: the chat was not masked. agreement: share of the choices that say the same as
    most; None: there is one."""

    id: str
    project_id: str
    alias: str
    version: int | None
    model: str
    user: str | None
    safety_identifier: str | None
    request: Json
    answer: Json
    metadata: dict[str, str]
    bytes: int
    masked: dict[str, int] | None
    request_id: str
    created_at: float
    agreement: float | None = None

    @property
    def served(self) -> str:
        """The version that answered, or the base."""
        return served_name(self.alias, self.version)


@dataclass(frozen=True, slots=True)
class FeedbackRecord:
    id: str
    project_id: str
    completion_id: str
    author: str
    alias: str
    version: int | None
    rating: Literal["up", "down"] | None
    score: float | None
    correction: str | None
    comment: str | None
    created_at: float
    updated_at: float

    @property
    def served(self) -> str:
        """The version that answered, or the base."""
        return served_name(self.alias, self.version)


@dataclass(frozen=True, slots=True)
class ChatOriginRecord:
    project_id: str
    completion_id: str
    user: str | None
    safety_identifier: str | None


@dataclass(frozen=True, slots=True)
class CaptureRecord:
    project_id: str
    alias: str
    percent: float
    mask: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class WebhookRecord:
    id: str
    project_id: str
    job_id: str | None
    name: str
    url: str
    event_types: list[WebhookEvent]
    seed: str
    old_seed: str | None
    old_until: float | None
    disabled_at: float | None
    disabled_reason: str | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    id: str
    project_id: str
    webhook_id: str
    job_id: str | None
    type: str
    payload: str
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    next_at: float
    expires_at: float
    last_status: int | None
    log: list[DeliveryAttempt]
    created_at: float
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class ClaimedDelivery(DeliveryRecord):
    """A delivery with its endpoint's address and signing seeds."""

    url: str
    seed: str
    old_seed: str | None
    old_until: float | None
