"""Several variants of one job, run one after the other and compared on the same test questions."""

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field, model_validator

from shared.contracts.distillation import Name, Strict
from shared.contracts.json_types import Json

EXPERIMENT, VARIANT = "experiment", "variant"  # the keys by which a job's metadata says where it belongs
Preset = Literal["ablation", "strategies", "teachers", "students"]
Changes = Json
ALONE: Changes = {"evaluation": {"baselines": []}}  # the first variant's report has the baselines already


def ablation(job: Changes) -> dict[str, Changes]:
    """What each part of the method is worth, against spending the same on less: plain distillation of, and plain
    fine-tuning on the references of, all questions that the whole job uses."""
    phases = (job.get("distillation", {}).get(phase) or {} for phase in ("distill", "iterate", "evolve"))
    used: list[int | None] = [phase.get("questions") for phase in phases]
    named = [questions for questions in used if questions]
    everything = {"questions": sum(named) if len(named) == len(used) else None}
    return {
        "full": {},
        "guided": ALONE | {"guidance": "weak"},
        "no-guidance": ALONE | {"guidance": "none"},
        "no-iterate": ALONE | {"phases": ["distill", "evolve"]},
        "no-evolve": ALONE | {"phases": ["distill", "iterate"]},
        "distill-only": ALONE | {"phases": ["distill"], "guidance": "none", "distill": everything},
        "references-only": ALONE | {"phases": ["distill"], "distill": everything | {"answers": "references"}},
    }


def strategies(job: Changes) -> dict[str, Changes]:
    """Ways of spending more compute in phase 3; everything before it is shared."""
    names = ("beam", "best-of-n", "self-consistency", "top-k")
    return {
        name: (ALONE if place else {}) | {"evolve": {"strategy": name.replace("-", "_")}}
        for place, name in enumerate(names)
    }


def variant_name(base: str) -> str:
    """A base's name as a part of an alias."""
    return re.sub(r"[^A-Za-z0-9._-]+|\.{2,}", "-", base).strip("._-")[:40] or "student"


# The base job's body -> changes of `distillation` by name. `teachers` is the api's: it alone knows the providers.
PRESETS = {"ablation": ablation, "strategies": strategies}


class Variant(Strict):
    """changes: what is laid over the base job, key by key, objects merged into each other."""

    name: Name
    changes: Json = Field(default={})


class ExperimentRequest(Strict):
    """Body of POST /v1/experiments. job: a job's body; the first variant is what the others are compared with."""

    job: Json
    variants: list[Variant] = Field(default=[], max_length=32)
    preset: Preset | None = None

    @model_validator(mode="after")
    def _either(self) -> "ExperimentRequest":
        if bool(self.variants) == (self.preset is not None):
            raise ValueError("name either variants or a preset")
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError("variants: each needs a name of its own")
        return self

    def all_variants(self, students: Sequence[str]) -> list[Variant]:
        """students: the bases that a job may name; the preset `students` makes a variant of each."""
        if self.preset is None:
            return self.variants
        if self.preset == "students":
            return [Variant(name=variant_name(base), changes={"model": base}) for base in students]
        variants = PRESETS[self.preset](self.job)
        return [Variant(name=name, changes={"distillation": changes}) for name, changes in variants.items()]


class VariantObject(BaseModel):
    """A variant and the job that runs it."""

    name: str
    job_id: str
    status: str
    fine_tuned_model: str | None


class ComparedVariant(BaseModel):
    """A variant whose job has a report. value, dev and the gains are [value, low, high], gains paired question by question.

    value, gain_over_base and gain_over_first are of test, dev and dev_gain_over_first of dev. lesson_tokens: of the strong
    model, for what the student learned from, whoever paid for it.
    """

    variant: str
    job_id: str
    final: str
    metric: str
    n: int
    value: list[float]
    gain_over_base: list[float] | None
    gain_over_first: list[float] | None
    dev: list[float] | None
    dev_gain_over_first: list[float] | None
    decisions: dict[str, str]
    teacher_calls: int
    teacher_tokens: int
    lesson_tokens: int


class ExperimentObject(BaseModel):
    """The variants in their order, and the comparison of those that have ended. Choose by dev; test tells what it is worth."""

    id: str
    object: Literal["distillation.experiment"] = "distillation.experiment"
    variants: list[VariantObject]
    comparison: list[ComparedVariant]


class ExperimentReport(BaseModel):
    """The comparison of the variants that have ended: `compared` of `variants`."""

    id: str
    object: Literal["distillation.experiment.report"] = "distillation.experiment.report"
    variants: int
    compared: int
    comparison: list[ComparedVariant]


def merged(base: Json, changes: Json) -> Json:
    """changes over base; objects are merged, everything else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result
