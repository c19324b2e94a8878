"""Trying a grader: OpenAI's fine_tuning.alpha.graders (openai 3.54, types/fine_tuning/alpha)."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from shared.contracts.grader_kinds import GivenGrader
from shared.contracts.json_types import Json

LONGEST_SAMPLE = 1_000_000  # characters


class GraderRequest(BaseModel):
    """given: the grader as the caller wrote it."""

    model_config = ConfigDict(extra="forbid")

    grader: GivenGrader
    _given: Json | str = PrivateAttr(default="")

    @model_validator(mode="wrap")
    @classmethod
    def _as_given(cls, value: Any, made: Callable[[Any], Self]) -> Self:
        request = made(value)
        if isinstance(value, dict):
            request._given = value["grader"]
        return request

    @property
    def given(self) -> Json | str:
        return self._given


class GraderRunRequest(GraderRequest):
    """model_sample: the answer, `sample.output_text` of templates. item: the record, with its `question` and `reference` where a
    grader looks at them, and any other fields."""

    model_sample: Annotated[str, Field(max_length=LONGEST_SAMPLE)]
    item: Json = {}


class GraderKindObject(BaseModel):
    """A kind of grader. type: `plugin` for one of another package, whose entry point `id` names; `kind` for the others, whose `type` or
    name it is. settings: their names; of another package's grader not known here. unavailable_because: what the operator can change."""

    id: str
    object: Literal["grader.kind"] = "grader.kind"
    type: Literal["kind", "plugin"] = "kind"
    settings: list[str] | None = None
    package: str | None = None
    version: str | None = None
    available: bool = True
    unavailable_because: str | None = None


class GraderValidated(BaseModel):
    """The grader as it was given."""

    grader: Json | str


class GraderErrors(BaseModel):
    """What went wrong, by OpenAI's names. invalid_variable_error: the item or the sample has no such field, or its reference cannot
    be graded against."""

    formula_parse_error: bool = False
    invalid_variable_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_server_error: bool = False
    model_grader_server_error_details: str | None = None
    other_error: bool = False
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    python_grader_server_error: bool = False
    python_grader_server_error_type: str | None = None
    sample_parse_error: bool = False
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False


class GraderRunMetadata(BaseModel):
    """execution_time: seconds. scores: by the names of a formula's graders. details: of an error, in words."""

    name: str
    type: str
    errors: GraderErrors
    execution_time: float
    scores: Json = {}
    token_usage: int | None = None
    sampled_model_name: str | None = None
    details: str | None = None


class ModelTokens(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0


class GraderRun(BaseModel):
    """reward: as the grader gave it; 0 where it failed. sub_rewards: by the names of a formula's graders."""

    reward: float
    metadata: GraderRunMetadata
    sub_rewards: dict[str, float] = {}
    model_grader_token_usage_per_model: dict[str, ModelTokens] = {}
