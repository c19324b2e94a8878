"""A job as OpenAI's clients post it: without a `distillation` object it is plain training on the file, and no teacher is asked."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from shared.contracts.distillation import (
    Distillation,
    DistillSettings,
    EvaluationSettings,
    EvolveSettings,
    Hyperparameters,
    Name,
    Phase,
    Strict,
)
from shared.contracts.faults import Readable
from shared.contracts.jobs import JobRequest, Metadata, read_back
from shared.contracts.json_types import Json, Number, Whole
from shared.contracts.webhooks import JobWebhook

DOMAIN = "fine-tuning"  # nobody reads it but people: only what asks a strong model tells it of the domain


class SupervisedMethod(Strict):
    hyperparameters: Hyperparameters | None = None


class DpoHyperparameters(Hyperparameters):
    """beta: how close the student stays to the one it came from. Ours weighs log-likelihoods per token, so it is larger than where
    they are summed up."""

    beta: Annotated[Number, Field(gt=0, le=100)] | Literal["auto"] = "auto"


class DpoMethod(Strict):
    hyperparameters: DpoHyperparameters | None = None


class FineTuningMethod(Strict):
    """reinforcement is known and refused: the service says what to do instead."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedMethod | None = None
    dpo: DpoMethod | None = None
    reinforcement: Json | None = None


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
    integrations: list[Json] | None = Field(default=None, max_length=16)
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
    def _of_method(self) -> Hyperparameters | None:
        method = self.method and (self.method.dpo if self.preferences else self.method.supervised)
        return method and method.hyperparameters

    def job(self) -> JobRequest:
        """The same as our own request."""
        hyperparameters = self._of_method or self.hyperparameters
        beta = hyperparameters.beta if isinstance(hyperparameters, DpoHyperparameters) else "auto"
        given = {
            "hyperparameters": hyperparameters and Hyperparameters(**hyperparameters.model_dump(exclude={"beta"})),
            "suffix": self.suffix,
            "seed": self.seed,
            "metadata": self.metadata,
            "webhook": self.webhook,
        }
        job = JobRequest(
            model=self.model,
            training_file=self.training_file,
            validation_file=self.validation_file or None,
            distillation=self.distillation
            or (preference_training(beta) if self.preferences else supervised_training()),
            **{name: value for name, value in given.items() if value is not None},
        )
        job._faults = self._faults
        return job


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
    """OpenAI's `method` of a job that is plain training; None where it is more, which OpenAI has no word for."""
    spec, given = job.distillation, job.hyperparameters.model_dump()
    if not spec.plain or len(spec.phases) > 1:
        return None
    if spec.phases == [Phase.EVOLVE]:
        return {"type": "dpo", "dpo": {"hyperparameters": given | {"beta": spec.evolve.beta}}}
    return {"type": "supervised", "supervised": {"hyperparameters": given}}
