"""Several variants of one job, run one after the other and compared on the same test questions."""

from typing import Any, Literal

from pydantic import Field, model_validator

from shared.contracts.jobs import Name, Strict

EXPERIMENT, VARIANT = "experiment", "variant"  # the keys by which a job's metadata says where it belongs
Preset = Literal["ablation", "strategies"]

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "ablation": {
        "full": {},
        "no-guidance": {"distillation": {"guidance": "none"}},
        "no-iterate": {"distillation": {"phases": ["distill", "evolve"]}},
        "no-evolve": {"distillation": {"phases": ["distill", "iterate"]}},
        "distill-only": {"distillation": {"phases": ["distill"], "guidance": "none"}},
    },
    "strategies": {
        name: {"distillation": {"evolve": {"strategy": name.replace("-", "_")}}}
        for name in ("beam", "best-of-n", "self-consistency", "top-k")
    },
}


class Variant(Strict):
    """changes: what is laid over the base job, key by key, objects merged into each other."""

    name: Name
    changes: dict[str, Any] = Field(default={})


class ExperimentRequest(Strict):
    """Body of POST /v1/experiments. job: a job's body; the first variant is what the others are compared with."""

    job: dict[str, Any]
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

    def all_variants(self) -> list[Variant]:
        if self.preset is None:
            return self.variants
        return [Variant(name=name, changes=changes) for name, changes in PRESETS[self.preset].items()]


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """changes over base; objects are merged, everything else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result
