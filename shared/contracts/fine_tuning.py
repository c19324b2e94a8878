"""A job as OpenAI's clients post it: without a `distillation` object it is plain training on the file, and no teacher is asked."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from shared.contracts.distillation import (
    Distillation,
    DistillSettings,
    EvaluationSettings,
    EvolveSettings,
    Hyperparameters,
    IterateSettings,
    Judge,
    Name,
    Phase,
    Strict,
)
from shared.contracts.faults import Readable
from shared.contracts.grader_kinds import BINARY_GRADERS, GivenGrader, Grader, VerifyingGrader, name_of
from shared.contracts.graders import ANSWER, REFERENCE
from shared.contracts.integrations import MOST as MOST_INTEGRATIONS
from shared.contracts.integrations import Integration
from shared.contracts.jobs import JobRequest, Metadata, read_back
from shared.contracts.json_types import Json, Number, Whole
from shared.contracts.steps import Strategy
from shared.contracts.webhooks import JobWebhook

SAMPLES, HALF = 8, 0.5  # of a question; the pass mark of rewards between 0 and 1
WITHOUT = {
    "eval_interval": "every model is measured on dev, after each phase",
    "eval_samples": "every model is measured on all rows of dev, greedily",
    "reasoning_effort": "a student reasons as it was trained to",
}
DOMAIN = "fine-tuning"  # nobody reads it but people: only what asks a strong model tells it of the domain


class SupervisedMethod(Strict):
    hyperparameters: Hyperparameters | None = None


class DpoHyperparameters(Hyperparameters):
    """beta: how close the student stays to the one it came from. Ours weighs log-likelihoods per token, so it is larger than where
    they are summed up."""

    beta: Annotated[Number, Field(gt=0, le=100)] | Literal["auto"] = "auto"


class DpoMethod(Strict):
    hyperparameters: DpoHyperparameters | None = None


class ReinforcementHyperparameters(Hyperparameters):
    """n_epochs: of the trainings on answers that pass. compute_multiplier: scales the number of samples of a question, SAMPLES by
    default. What has no meaning here is refused by name, unless it leaves the choice to us."""

    compute_multiplier: Annotated[Number, Field(gt=0, le=8)] | Literal["auto"] | None = "auto"
    eval_interval: Whole | Literal["auto"] | None = "auto"
    eval_samples: Whole | Literal["auto"] | None = "auto"
    reasoning_effort: Literal["default", "low", "medium", "high"] | None = None

    @field_validator("eval_interval", "eval_samples", "reasoning_effort")
    @classmethod
    def _left_to_us(cls, value: Any, info: ValidationInfo) -> Any:
        if value not in (None, "auto", "default"):
            raise ValueError(f"{info.field_name} has no meaning here: {WITHOUT[info.field_name or '']}; leave it out")
        return value

    @property
    def samples(self) -> int:
        """Of a question."""
        given = self.compute_multiplier
        return SAMPLES if given in (None, "auto") else min(64, max(2, round(SAMPLES * float(given))))


class ReinforcementMethod(Strict):
    """grader: its scores are the reward. pass_threshold (ours): the reward from which an answer is learned; by default 1 for graders
    that say right or wrong, and HALF for the others."""

    grader: GivenGrader
    hyperparameters: ReinforcementHyperparameters | None = None
    pass_threshold: Number | None = Field(default=None, gt=0, le=1)
    response_format: Json | None = None

    @field_validator("response_format")
    @classmethod
    def _no_form(cls, value: Json | None) -> Json | None:
        if value is not None and value.get("type") != "text":
            raise ValueError(
                "response_format: samples are drawn as plain text; a multi grader with json_schema in it rewards the form"
            )
        return value


class FineTuningMethod(Strict):
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedMethod | None = None
    dpo: DpoMethod | None = None
    reinforcement: ReinforcementMethod | None = None

    @model_validator(mode="after")
    def _a_grader(self) -> "FineTuningMethod":
        if self.type == "reinforcement" and self.reinforcement is None:
            raise ValueError("reinforcement: say by which grader, as {'grader': {...}}")
        return self


class FineTuningRequest(Strict, Readable):
    """Body of POST /v1/fine_tuning/jobs. suffix names the alias under which the result is served.

    hyperparameters: OpenAI's older place for those of `method`; not both. distillation: makes it the same request as one to
    /v1/distillation/jobs, and then `method` says nothing and is refused.
    """

    model: str = Field(min_length=1, max_length=200)
    training_file: str = Field(min_length=1, max_length=64)
    distillation: Distillation | None = None
    method: FineTuningMethod | None = None
    hyperparameters: Hyperparameters | None = None
    suffix: Name | None = None
    seed: Whole | None = Field(default=None, ge=0, le=2**31 - 1)
    metadata: Metadata | None = None
    validation_file: str | None = Field(default=None, max_length=64)
    integrations: list[Integration] | None = Field(default=None, max_length=MOST_INTEGRATIONS)
    webhook: JobWebhook | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_back(cls, value: Any) -> Any:
        return read_back(value)

    @model_validator(mode="after")
    def _one_place(self) -> "FineTuningRequest":
        if self.method is not None and self.distillation is not None:
            raise ValueError("method: say either method or distillation; distillation.phases has the methods")
        if self._of_method is not None and self.hyperparameters is not None:
            raise ValueError("hyperparameters: give them once, in those of the method")
        return self

    @property
    def preferences(self) -> bool:
        return self.method is not None and self.method.type == "dpo"

    @property
    def reinforcement(self) -> ReinforcementMethod | None:
        return self.method.reinforcement if self.method is not None and self.method.type == "reinforcement" else None

    @property
    def _of_method(self) -> Hyperparameters | None:
        method = getattr(self.method, self.method.type) if self.method is not None else None
        return method.hyperparameters if method is not None else None

    def job(self) -> JobRequest:
        """The same as our own request."""
        hyperparameters = self._of_method or self.hyperparameters
        beta = hyperparameters.beta if isinstance(hyperparameters, DpoHyperparameters) else "auto"
        given: dict[str, Any] = {
            "hyperparameters": hyperparameters
            and Hyperparameters(**hyperparameters.model_dump(include=set(Hyperparameters.model_fields))),
            "suffix": self.suffix,
            "seed": self.seed,
            "metadata": self.metadata,
            "webhook": self.webhook,
            "integrations": self.integrations,
        }
        job = JobRequest(
            model=self.model,
            training_file=self.training_file,
            validation_file=self.validation_file or None,
            distillation=self.distillation or self._training(beta),
            **{name: value for name, value in given.items() if value is not None},
        )
        job._faults = self._faults
        return job

    def _training(self, beta: float | Literal["auto"]) -> Distillation:
        if self.reinforcement is not None:
            return reinforcement_training(self.reinforcement)
        return preference_training(beta) if self.preferences else supervised_training()


def reinforcement_training(method: ReinforcementMethod) -> Distillation:
    """Phases 2 and 3 on samples that a grader verifies: those that pass are learned, then preferred over those that do not. No strong
    model is asked, and the grader is the measure too."""
    grader, samples = method.grader, (method.hyperparameters or ReinforcementHyperparameters()).samples
    mark = method.pass_threshold
    if mark is None:
        mark = 1.0 if name_of(grader) in BINARY_GRADERS else HALF
    return Distillation(
        domain=DOMAIN,
        phases=[Phase.ITERATE, Phase.EVOLVE],
        primary_metric=grader,
        judge=Judge(grader=grader, pass_mark=mark),
        iterate=IterateSettings(strategy="sample", samples=samples),
        evolve=EvolveSettings(strategy=Strategy.VERIFIED, samples=samples),
        evaluation=EvaluationSettings(baselines=[], graders=[]),
    )


def supervised_training() -> Distillation:
    """Training on the file's own answers, measured before and after; nothing that asks a strong model, no other students."""
    return Distillation(
        domain=DOMAIN,
        phases=[Phase.DISTILL],
        distill=DistillSettings(answers="references"),
        evaluation=EvaluationSettings(baselines=[]),
    )


def preference_training(beta: float | Literal["auto"]) -> Distillation:
    """Training on the file's pairs of a preferred and another answer, measured as supervised training is."""
    return Distillation(
        domain=DOMAIN,
        phases=[Phase.EVOLVE],
        evolve=EvolveSettings(pairs="file") if beta == "auto" else EvolveSettings(pairs="file", beta=beta),
        evaluation=EvaluationSettings(baselines=[]),
    )


def method_of(job: JobRequest) -> Json | None:
    """OpenAI's `method` of a job that is plain training, or reinforcement; None where it is more, which OpenAI has no word for."""
    spec, given = job.distillation, job.hyperparameters.model_dump()
    if _reinforces(spec):
        assert spec.judge.grader is not None
        samples = spec.iterate.samples
        own = {"compute_multiplier": "auto" if samples == SAMPLES else samples / SAMPLES}
        own |= {"eval_interval": "auto", "eval_samples": "auto", "reasoning_effort": "default"}
        shown = {"grader": openais_grader(spec.judge.grader), "pass_threshold": spec.judge.pass_mark}
        return {"type": "reinforcement", "reinforcement": shown | {"hyperparameters": given | own}}
    if not spec.plain or len(spec.phases) > 1:
        return None
    if spec.phases == [Phase.EVOLVE]:
        return {"type": "dpo", "dpo": {"hyperparameters": given | {"beta": spec.evolve.beta}}}
    return {"type": "supervised", "supervised": {"hyperparameters": given}}


def _reinforces(spec: Distillation) -> bool:
    """Whether it is verified sampling and verified pairs by one grader, and nothing else."""
    both = spec.phases == [Phase.ITERATE, Phase.EVOLVE] and spec.judge.grader == spec.primary_metric
    sampled = spec.iterate.strategy == "sample" and spec.evolve.strategy is Strategy.VERIFIED
    return both and sampled and spec.asks_nobody


def openais_grader(grader: Grader | VerifyingGrader) -> Json:
    """As OpenAI's client reads it: an object with a name."""
    if not isinstance(grader, Grader):
        shown = grader.model_dump(mode="json", by_alias=True)
        return shown if shown.get("name") else shown | {"name": name_of(grader)}
    texts: Json = {"name": grader.value, "input": ANSWER[0], "reference": REFERENCE[0]}
    if grader is Grader.STRING_CHECK:
        return texts | {"type": "string_check", "operation": "eq"}
    if grader is Grader.ROUGE_L:
        return texts | {"type": "text_similarity", "evaluation_metric": "rouge_l"}
    return texts | {"type": grader.value}
