"""What a run of an eval makes: the rows of its steps, its results by item, and the run as it is read."""

from typing import Literal

from pydantic import BaseModel, Field

from shared.contracts.distillation import Budget
from shared.contracts.errors import ErrorBody
from shared.contracts.evals import Criterion
from shared.contracts.jobs import JobProgress, JobStatus, Usage
from shared.contracts.json_types import Json
from shared.contracts.steps import Sampling, Wire

# Steps of a run


class CompleteParams(Wire):
    """For strong.complete: a configured provider by name, asked as it is, without a word of ours."""

    provider: str
    sampling: Sampling


class CheckParams(Wire):
    """For judge.check. files: what graders read, file id -> artifact."""

    criteria: list[Criterion]
    files: dict[str, str] = Field(default={})


class CheckInput(Wire):
    """An answer on its way to the graders. item: all its fields."""

    id: str
    item: Json
    output_text: str


class CriterionResult(Wire):
    """score in [0, 1]. error: why there is none; it counts as 0 and does not pass. note: the grader was stopped (slow, crash)."""

    name: str
    type: str
    score: float
    passed: bool
    error: str | None = None
    note: str | None = None


class Checked(Wire):
    id: str
    results: list[CriterionResult]


# What is read of a run


class EvalError(BaseModel):
    code: str
    message: str


class SampleUsage(BaseModel):
    """cached_tokens: of answers that were paid for earlier."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0

    def plus(self, other: "SampleUsage") -> "SampleUsage":
        return SampleUsage(**{name: getattr(self, name) + getattr(other, name) for name in SampleUsage.model_fields})


class SampleMessage(BaseModel):
    role: str
    content: str


class ItemSample(BaseModel):
    """What was asked and answered."""

    input: list[SampleMessage] = []
    output: list[SampleMessage] = []
    finish_reason: str = ""
    model: str = ""
    usage: SampleUsage = SampleUsage()
    error: EvalError | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    max_completion_tokens: int = 0
    seed: int = 0


class StoredItem(BaseModel):
    """One row of a run's result, as it is kept. status: pass, fail or error."""

    item: Json
    sample: ItemSample
    results: list[CriterionResult]
    status: Literal["pass", "fail", "error"]


class OutputItem(BaseModel):
    """`eval.run.output_item`. datasource_item_id: its place in the data, from 0."""

    id: str
    object: Literal["eval.run.output_item"] = "eval.run.output_item"
    created_at: int
    eval_id: str
    run_id: str
    datasource_item_id: int
    datasource_item: Json
    status: Literal["pass", "fail", "error"]
    results: list[CriterionResult]
    sample: ItemSample


class ResultCounts(BaseModel):
    total: int = 0
    passed: int = 0
    failed: int = 0
    errored: int = 0


class CriterionCounts(BaseModel):
    testing_criteria: str
    passed: int
    failed: int


class ModelUsage(SampleUsage):
    model_name: str
    invocation_count: int


class RunResult(BaseModel):
    """The figures of a run that succeeded."""

    result_counts: ResultCounts = ResultCounts()
    per_testing_criteria_results: list[CriterionCounts] = []
    per_model_usage: list[ModelUsage] = []
    mean_scores: dict[str, float] = {}


RunStatus = Literal["queued", "in_progress", "completed", "canceled", "failed"]
RUN_STATUS: dict[JobStatus, RunStatus] = {
    JobStatus.VALIDATING: "queued",
    JobStatus.QUEUED: "queued",
    JobStatus.RUNNING: "in_progress",
    JobStatus.PAUSING: "in_progress",
    JobStatus.PAUSED: "in_progress",
    JobStatus.CANCELLING: "canceled",
    JobStatus.CANCELLED: "canceled",
    JobStatus.SUCCEEDED: "completed",
    JobStatus.FAILED: "failed",
}


class EvalRunObject(RunResult):
    """`eval.run`. mean_scores: by criterion, rows with an error as 0. report_url: where the rows are."""

    id: str
    object: Literal["eval.run"] = "eval.run"
    eval_id: str
    created_at: int
    finished_at: int | None = None
    name: str
    model: str
    status: RunStatus
    status_reason: str | None = None
    error: EvalError | None = None
    data_source: Json
    metadata: dict[str, str] | None = None
    report_url: str
    progress: JobProgress = JobProgress()
    usage: Usage = Usage()
    budget: Budget = Budget()


class RunDeleted(BaseModel):
    object: Literal["eval.run.deleted"] = "eval.run.deleted"
    deleted: Literal[True] = True
    run_id: str


def error_of(error: ErrorBody | None) -> EvalError | None:
    return EvalError(code=error.code or error.type, message=error.message) if error else None
