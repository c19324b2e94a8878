"""The job as users post and read it: OpenAI's fine-tuning shapes plus one nested `distillation` object."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.distillation import NO_NUL, Budget, Distillation, Hyperparameters, Name, Phase, Strict
from shared.contracts.errors import ErrorBody, ErrorItem
from shared.contracts.estimate import Estimate
from shared.contracts.experiments import EXPERIMENT, VARIANT
from shared.contracts.faults import Readable
from shared.contracts.grader_kinds import file_ids
from shared.contracts.integrations import MOST as MOST_INTEGRATIONS
from shared.contracts.integrations import Integration
from shared.contracts.json_types import Json, Whole
from shared.contracts.material import is_file
from shared.contracts.versions import MOST_NAMED, RowId
from shared.contracts.webhooks import JobWebhook


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


class JobKind(StrEnum):
    """What a job does. All kinds share states, steps, leases, budget, ledger and events; each has a request of its own."""

    DISTILLATION = "distillation"
    IMPORT = "import"  # makes an uploaded file
    EXPORT = "export"  # makes artifacts of a version
    EVAL = "eval"  # a run of an eval: grades answers


class Named(NamedTuple):
    """files, eval_id: ids. model: the id of a version, or alias@version; a base is named so as well, and cannot be deleted."""

    files: Sequence[str] = ()
    model: str | None = None
    eval_id: str | None = None


class AnyRequest(Strict):
    """What a job of some kind is asked to do; kept in its row. A kind that may call a strong model has a field `budget`."""

    kind: ClassVar[JobKind]

    @property
    def reads(self) -> str | None:
        """The uploaded file that must stay for as long as the job lives."""
        return None

    @property
    def names(self) -> "Named":
        """What must be there when the job is queued, and cannot be deleted until it has ended."""
        return Named([self.reads] if self.reads else [])

    def called(self, job_id: str) -> str:
        """The job in a message to its owner."""
        return f"{self.kind} {job_id}"


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64, pattern=NO_NUL)], Annotated[str, Field(max_length=512, pattern=NO_NUL)]],
    Field(max_length=16),
]


# What a job's object says beside what was asked for.
SAID = (
    "id", "object", "created_at", "finished_at", "estimated_finish", "fine_tuned_model", "organization_id", "status",
    "error", "method", "result_files", "trained_tokens", "webhook_secret",
)  # fmt: skip
SAID_OF_DISTILLATION = (
    "forked_from", "status", "phase", "status_reason", "failure", "queue", "progress", "usage", "estimate", "evaluation_result",
)  # fmt: skip


def read_back(value: Any) -> Any:
    """A job's object as the request for another one like it: what only the server says of a job is left out, and its place in
    an experiment, which is its own. Any other body stays as it is, so there these fields are unknown ones."""
    if not isinstance(value, Mapping) or value.get("object") != "fine_tuning.job":
        return value
    kept = {name: part for name, part in value.items() if name not in SAID}
    for name, own in (("distillation", SAID_OF_DISTILLATION), ("metadata", (EXPERIMENT, VARIANT))):
        if isinstance(kept.get(name), Mapping):
            kept[name] = {key: part for key, part in kept[name].items() if key not in own}
    return kept


class JobRequest(AnyRequest, Readable):
    """Body of POST /v1/distillation/jobs: a new job, or the object of an earlier job as it was read, to post the same again.

    suffix names the alias under which the result is served. validation_file: its rows are the dev split; what would be dev of the
    training file is learned from then.
    """

    kind = JobKind.DISTILLATION
    model: str = Field(min_length=1, max_length=200)
    training_file: str = Field(min_length=1, max_length=64)
    validation_file: str | None = Field(default=None, min_length=1, max_length=64)
    distillation: Distillation
    suffix: Name = "expert"
    seed: Whole = Field(default=0, ge=0, le=2**31 - 1)
    hyperparameters: Hyperparameters = Hyperparameters()
    metadata: Metadata = Field(default={})
    webhook: JobWebhook | None = None
    integrations: list[Integration] | None = Field(
        default=None, max_length=MOST_INTEGRATIONS, exclude_if=lambda value: not value
    )

    @model_validator(mode="after")
    def _each_type_once(self) -> "JobRequest":
        types = [one.type for one in self.integrations or ()]
        if len(types) != len(set(types)):
            raise ValueError("integrations: name each type once")
        return self

    @property
    def reads(self) -> str:
        return self.training_file

    @property
    def names(self) -> Named:
        given = [self.training_file, self.validation_file, *file_ids(self.distillation.verifying)]
        material = [text.strip() for text in self.distillation.teacher.contexts if is_file(text)]
        return Named([file for file in given if file] + material, self.model)

    def called(self, job_id: str) -> str:
        return f"job {job_id}"

    @model_validator(mode="before")
    @classmethod
    def _read_back(cls, value: Any) -> Any:
        return read_back(value)


def budget_of(kind: str, request: Mapping[str, Any]) -> Budget:
    """What a job may spend, from its stored request; a kind that never spends has no limit."""
    place = request["distillation"] if kind == JobKind.DISTILLATION else request
    return Budget.model_validate(place.get("budget", {}))


def with_budget(kind: str, request: Mapping[str, Any], budget: Budget) -> Json:
    """The stored request with another budget."""
    change = {"budget": budget.model_dump(mode="json")}
    if kind == JobKind.DISTILLATION:
        change = {"distillation": request["distillation"] | change}
    return dict(request) | change


class ForkPoint(Strict):
    """A finished phase, or one of phase 2's rounds: a fork reuses everything up to its end."""

    phase: Phase
    round: Whole | None = Field(default=None, ge=1, le=20)

    @model_validator(mode="after")
    def _rounds_of_iterate(self) -> "ForkPoint":
        if self.round is not None and self.phase is not Phase.ITERATE:
            raise ValueError(f"round: only iterate has rounds, not {self.phase.value}")
        return self

    def __str__(self) -> str:
        return self.phase.value if self.round is None else f"{self.phase.value}/{self.round}"


class ForkRequest(Strict):
    """Body of POST .../jobs/{id}/fork. changes: laid over the job's own body, objects merged into each other.

    point ("from" on the wire): what comes before its end is taken over and may not be changed; None: whatever the changes
    leave as it was is taken over. without: ids of rows of its files that the new job is not to have: it gets versions of the
    files without them, whose other rows stay in their splits.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    changes: Json = Field(default={})
    point: ForkPoint | None = Field(default=None, alias="from")
    without: list[RowId] = Field(default=[], max_length=MOST_NAMED)


class ForkedFrom(BaseModel):
    """Where a fork comes from. phase and round: the end of what it took over by `from`."""

    job_id: str
    phase: Phase | None = None
    round: int | None = None


class Usable(BaseModel):
    """What remains of a job that failed. models: versions that can be asked; phases: those that were finished and not
    rejected; steps_done: so many are taken over by a fork, or by the same job posted again."""

    models: list[str] = []
    phases: list[str] = []
    steps_done: int = 0


class Failure(BaseModel):
    """Where and why a job failed. step: its key, None where the phase itself found the fault; attempts: of that step."""

    phase: str | None = None
    step: str | None = None
    attempts: int = 0
    cause: ErrorBody
    usable: Usable = Usable()


class QueuePlace(BaseModel):
    """Of a queued job. position: 1 is taken next; starts_in_seconds: None where nobody can tell; reason: what else it waits for."""

    position: int
    starts_in_seconds: float | None = None
    reason: str | None = None


class DistillationChange(Strict):
    """budget: what it leaves out stays as it is, null takes a limit away."""

    budget: Budget = Budget()


class JobChange(Strict):
    """Body of PATCH /v1/distillation/jobs/{id}: all that may be changed of a job that exists."""

    distillation: DistillationChange = DistillationChange()
    metadata: Metadata | None = None


class Measured(BaseModel):
    """What a job has measured of one kind of step: rows (repeats counted), and the seconds that they took."""

    rows: float
    seconds: float


class JobProgress(BaseModel):
    """done and total in seconds of estimated work. eta_seconds: the time left, most likely between eta_low_seconds and
    eta_high_seconds; None until something tells it. measured: by kind of step; later jobs here begin with it."""

    percent: float = 0.0
    done: float = 0.0
    total: float = 0.0
    eta_seconds: float | None = None
    eta_low_seconds: float | None = None
    eta_high_seconds: float | None = None
    measured: dict[str, Measured] = {}


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
    """The effective configuration together with where the job stands. status: the job's exact one, under OpenAI's names too."""

    forked_from: ForkedFrom | None = None
    status: JobStatus | None = None
    phase: str | None = None
    status_reason: str | None = None
    failure: Failure | None = None
    queue: QueuePlace | None = None
    progress: JobProgress = JobProgress()
    usage: Usage = Usage()
    estimate: Estimate | None = None
    evaluation_result: Json | None = Field(default=None, serialization_alias="evaluation_result")


class JobCheck(BaseModel):
    """What posting a job would tell: all that is wrong (errors: it would be refused), what its owner should know (warnings), what was
    found in order (checked, for people), and what it would cost; no estimate where there are errors or the prices are unknown."""

    object: Literal["distillation.check"] = "distillation.check"
    ok: bool
    errors: list[ErrorItem] = []
    warnings: list[ErrorItem] = []
    checked: list[str] = []
    estimate: Estimate | None = None


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
    method: Json | None = None
    training_file: str
    validation_file: str | None = None
    result_files: list[str] = Field(
        default=[], description="once it has succeeded: a CSV with the losses of its trainings"
    )
    seed: int
    suffix: str
    trained_tokens: int | None = None
    integrations: list[Integration] = []
    metadata: dict[str, str] = {}
    webhook: JobWebhook | None = None
    webhook_secret: str | None = Field(
        default=None, description="in the answer to the job's POST only, and not with an Idempotency-Key"
    )
    distillation: JobDistillation
