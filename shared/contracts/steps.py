"""The wire between the orchestrator and the workers: one request and one result per durable step.

Payloads are artifacts (files by content hash); the queue's messages carry a step id and nothing else.
"""

import hashlib
import json
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from shared.contracts.grader_kinds import GivenGrader, VerifyingKind
from shared.contracts.json_types import Json, Switch, Whole
from shared.contracts.prompt_profile import PLAIN, PromptProfile


class Queue(StrEnum):
    """One queue per worker type. Every queue must have a consumer wherever the system is deployed."""

    WEAK = "weak"
    STRONG = "strong"
    JUDGE = "judge"
    TRAIN = "train"


class StepKind(StrEnum):
    """What a step does; the part before the dot is its queue. shared/contracts/step_kinds.py has the properties of each."""

    GUIDE = "weak.guide"
    ANSWER = "weak.answer"
    REASON = "weak.reason"
    SAMPLE = "weak.sample"
    TEACH = "strong.teach"
    READ = "strong.read"
    ASK = "strong.ask"
    PROPOSE = "strong.propose"
    COMPLETE = "strong.complete"
    COMPARE = "judge.compare"
    RATE = "judge.rate"
    REVIEW = "judge.review"
    GRADE = "judge.grade"
    CHECK = "judge.check"
    AGREE = "judge.agree"
    SFT = "train.sft"
    SCORE = "train.score"
    SEARCH = "train.search"
    DPO = "train.prefer"
    MERGE = "train.merge"
    GGUF = "train.gguf"
    PUSH = "train.push"
    PROBE = "train.probe"

    @property
    def queue(self) -> Queue:
        return Queue(self.value.partition(".")[0])


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid")


WireT = TypeVar("WireT", bound=Wire)


def _unset(value: Any) -> bool:
    """What is left out, so that the hashes of steps from before the field was there still hold."""
    return value is None or value is False


def _empty(value: Any) -> bool:
    return not value


def _is_empty(value: list) -> bool:
    return not value


def _is_one(value: float) -> bool:
    return value == 1


class Method(StrEnum):
    """What a training changes: an adapter beside the base's weights, or all weights."""

    LORA = "lora"
    FULL = "full"


def _is_lora(value: Any) -> bool:
    return value == Method.LORA


class ModelRef(Wire):
    """A student: the base's name and content hash, plus the content hash of what was trained: an adapter, or a whole
    model (weights). Neither: the bare base. prompts: how the base's prompts differ from what its folder alone would give.

    What came after the first release is left out of the JSON where it is unset, so older steps keep their hashes.
    """

    base: str
    base_hash: str
    adapter: str | None = None
    weights: str | None = Field(default=None, exclude_if=_unset)
    prompts: PromptProfile | None = Field(default=None, exclude_if=_unset)

    @property
    def profile(self) -> PromptProfile:
        return self.prompts or PLAIN

    @property
    def tuned(self) -> str | None:
        """The content hash of what was trained."""
        return self.adapter or self.weights

    @property
    def method(self) -> Method:
        return Method.FULL if self.weights else Method.LORA

    @property
    def engine_name(self) -> str:
        """The name vLLM knows it by. What was trained is served under its content hash, never under a user's name."""
        return self.tuned or self.base

    @property
    def served_by(self) -> str:
        """What an engine must have been started with: the base's name, or the content hash of a whole model."""
        return self.weights or self.base

    def trained(self, method: Method, digest: str | None) -> "ModelRef":
        """The same base with what a training made of it."""
        full = method is Method.FULL
        return self.model_copy(update={"adapter": None if full else digest, "weights": digest if full else None})


class Sampling(Wire):
    max_tokens: int = Field(default=128, ge=1, le=32_768)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = 0


class StudentParams(Wire):
    """For weak.*: the student asked, in which domain, and how it decodes. n: completions of each row, of weak.sample."""

    model: ModelRef
    domain: str
    sampling: Sampling
    n: int = Field(default=1, ge=1, le=64, exclude_if=_is_one)


RATIONALE_VERSION = 2  # of the prompt that asks a teacher for its reasoning


class TeachParams(Wire):
    """For strong.teach: a configured teacher by name; `ground` shows it the record's reference; batch: by its batch API;
    rationale: it reasons before it answers; rationale_version: of the prompt that asks for it, so that a changed one leaves the
    hashes of the other steps as they are. material: artifacts of the texts that are shown with every row; samples: answers to each
    row, drawn with seeds of their own."""

    teacher: str
    domain: str
    sampling: Sampling
    ground: bool = True
    batch: bool = Field(default=False, exclude_if=_unset)
    rationale: bool = Field(default=False, exclude_if=_unset)
    rationale_version: int = Field(default=1, ge=1, exclude_if=_is_one)
    material: list[str] = Field(default=[], exclude_if=_empty)
    samples: int = Field(default=1, ge=1, le=32, exclude_if=_is_one)


class JudgeParams(Wire):
    """For judge.*: graders by name with the pass mark of the primary one, and the judge that writes critiques.

    grader: None leaves the verdict to the judge alone. batch: the judge is asked by its provider's batch API. verify: graders
    beside the named ones; files: what they read, file id -> artifact. material: as the teacher's. analysis: each verdict comes after an
    analysis.
    """

    judge: str
    domain: str
    sampling: Sampling
    grader: str | None = None
    pass_mark: float = 1.0
    batch: bool = Field(default=False, exclude_if=_unset)
    verify: list[VerifyingKind] = Field(default=[], exclude_if=_empty)
    files: dict[str, str] = Field(default={}, exclude_if=_empty)
    material: list[str] = Field(default=[], exclude_if=_empty)
    analysis: bool = Field(default=False, exclude_if=_unset)


class AgreeParams(Wire):
    """For judge.agree: the grader whose equality says which answers are the same; files: what it reads, file id -> artifact."""

    grader: GivenGrader
    files: dict[str, str] = Field(default={}, exclude_if=_empty)


class Optim(StrEnum):
    """AdamW with moments in float32 or in 8 bits; paged: they move to the host's memory where the GPU's runs out."""

    ADAMW = "adamw"
    ADAMW_8BIT = "adamw_8bit"
    PAGED_ADAMW_8BIT = "paged_adamw_8bit"


class Dtype(StrEnum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def _is_default(value: Any) -> bool:
    return value in (Optim.ADAMW, Dtype.FLOAT32)


class AdapterConfig(Wire):
    """What is trained, and in which form. use_dora: weight-decomposed LoRA (DoRA); its result is a whole model, for engines serve no
    such adapter. load_in_4bit: the base is held in 4 bits (NF4) while its adapter is trained (QLoRA). dtype: of the weights in a
    training of all of them."""

    rank: Whole = Field(default=16, ge=1, le=256)
    alpha: Whole = Field(default=32, ge=1, le=1024)
    targets: str = Field(default="all-linear", max_length=200)
    max_length: Whole = Field(default=512, ge=16, le=131_072)
    use_dora: Switch = Field(default=False, exclude_if=_unset)
    load_in_4bit: Switch = Field(default=False, exclude_if=_unset)
    optim: Optim = Field(default=Optim.ADAMW, exclude_if=_is_default)
    dtype: Dtype = Field(default=Dtype.FLOAT32, exclude_if=_is_default)

    @property
    def libraries(self) -> dict[str, str]:
        """What the trainer needs beside its own libraries: package -> the setting that asks for it."""
        needed = {}
        if self.load_in_4bit:
            needed["bitsandbytes"] = "load_in_4bit"
        if self.dtype is Dtype.BFLOAT16:
            needed["torchao"] = "dtype"
        elif self.optim is not Optim.ADAMW:
            needed.setdefault("bitsandbytes", "optim")
        return needed


ALL_WEIGHTS = ("max_length", "optim", "dtype")  # what a training of all weights reads of an AdapterConfig


class TrainParams(Wire):
    """For train.sft and train.prefer. learning_rate is absolute; beta and sft_weight are read by train.prefer only.

    method full trains all weights; of adapter only ALL_WEIGHTS are read then.
    """

    model: ModelRef
    method: Method = Field(default=Method.LORA, exclude_if=_is_lora)
    adapter: AdapterConfig
    epochs: float = Field(gt=0, le=100)
    learning_rate: float = Field(gt=0, le=1)
    batch_size: int = Field(ge=1, le=1024)
    seed: int
    beta: float = 2.0
    sft_weight: float = 0.5


class ProbeParams(Wire):
    """For train.probe: the base that is tried. Its result is a Capabilities in the metrics."""

    base: str
    base_hash: str


class ScoreParams(Wire):
    """For train.score: how likely the student finds given answers. max_length: tokens of question and answer."""

    model: ModelRef
    max_length: int = Field(default=512, ge=16, le=131_072)


class Strategy(StrEnum):
    """How phase 3 makes its pairs: more compute than greedy decoding spends (the first four, by the trainer), or samples of the
    engine, told apart by a grader or by how many of them agree."""

    BEAM = "beam"
    BEST_OF_N = "best_of_n"
    SELF_CONSISTENCY = "self_consistency"
    TOP_K = "top_k"
    VERIFIED = "verified"
    AGREEMENT = "agreement"

    @property
    def samples(self) -> bool:
        return self in (Strategy.VERIFIED, Strategy.AGREEMENT)


class SearchParams(Wire):
    """For train.search: both sides of a pair come from one engine, dtype and prompt ids (paper section 3.3).

    beam_width is read by `beam`, samples by best_of_n and self_consistency, temperature by all that sample.
    """

    model: ModelRef
    strategy: Strategy = Strategy.BEAM
    beam_width: int = Field(default=10, ge=2, le=64)
    samples: int = Field(default=8, ge=2, le=64)
    temperature: float = Field(default=0.8, gt=0, le=2)
    max_new_tokens: int = Field(default=64, ge=1, le=16_384)
    batch_size: int = Field(default=4, ge=1, le=256)
    seed: int = 0


class StepRequest(Wire):
    """All a worker needs. Its hash is the step's identity: same hash inside one project, same result."""

    kind: StepKind
    version: int
    params: Json
    rows: list[Json]


class Point(Wire):
    """What a training logged at one optimiser step. accuracy: share of the answers' tokens that were the likeliest."""

    step: int
    loss: float
    accuracy: float | None = Field(default=None, exclude_if=_unset)


class StepResult(Wire):
    """What a worker leaves: rows in the request's order, the content hash of a trained adapter or of a whole model's
    weights (both are served), or of a folder made for an export, figures for people, and how a training went."""

    rows: list[Json] = []
    adapter: str | None = None
    weights: str | None = Field(default=None, exclude_if=_unset)
    folder: str | None = Field(default=None, exclude_if=_unset)
    metrics: Json = {}
    curve: list[Point] = Field(default=[], exclude_if=_is_empty)

    @property
    def trained(self) -> str | None:
        """The content hash of what this step trained, if it trained."""
        return self.adapter or self.weights

    def read(self, row_type: type[WireT]) -> list[WireT]:
        """The rows as what this kind of step returns."""
        return [row_type.model_validate(row) for row in self.rows]


class Progress(Wire):
    """Inside one running step. `done` and `total` count rows, or optimiser steps in training.

    waits_for: why it does nothing yet, for people. unavailable: until it goes on it takes no worker's place.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    done: int = 0
    total: int = 0
    metrics: Json = {}
    eta_seconds: float | None = None
    waits_for: str | None = None
    unavailable: bool = Field(
        default=False, validation_alias=AliasChoices("unavailable", "away"), serialization_alias="away"
    )  # its name in the JSON is older


def canonical(value: Any) -> bytes:
    """JSON with one spelling: sorted keys, no spaces, UTF-8. Hashes are taken over this."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def content_hash(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()
