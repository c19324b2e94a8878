"""Which variable is set where. Writes docs/reference/variables.md and the names that the chart's values.schema.json allows.

python -m tests.variables
"""

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from services.api.settings import ApiSettings
from services.judge.settings import JudgeSettings
from services.local.settings import LocalSettings
from services.local.supervisor.plan import make_plan
from services.orchestrator.settings import OrchestratorSettings
from services.strong_model.gateway.providers import JudgeProviderSettings, TeacherSettings
from services.strong_model.settings import StrongSettings
from services.trainer.settings import TrainerSettings
from services.weak_model.settings import EngineSettings, WeakSettings
from shared.artifacts.bases import Bases
from shared.platform.settings import PlatformSettings
from shared.platform.tracing import TraceSettings

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "deploy" / "helm" / "meteor"
SCHEMA = CHART / "values.schema.json"
PAGE = ROOT / "docs" / "reference" / "variables.md"
Classes = tuple[type[BaseSettings], ...]

COMMON: Classes = (PlatformSettings, TraceSettings)
# A process, by its place in the chart's values -> the classes that it reads.
READS: dict[str, Classes] = {
    "api": (*COMMON, Bases, ApiSettings),
    "orchestrator": (*COMMON, Bases, OrchestratorSettings),
    "gateway": (*COMMON, StrongSettings, TeacherSettings, JudgeProviderSettings),
    "weakWorker": (*COMMON, WeakSettings),
    "strongWorker": (*COMMON, StrongSettings),
    "judge": (*COMMON, JudgeSettings),
    "trainer": (*COMMON, Bases, TrainerSettings),
    "engine": (PlatformSettings, Bases, EngineSettings),
}
CLASSES: Classes = (*dict.fromkeys(one for classes in READS.values() for one in classes), LocalSettings)

FIXED = "the chart"
# The variables with a place of their own in the chart's values; FIXED for those that no value changes. All others: settings.
PLACES = {
    "DATABASE_URL": "secret `database-url`",
    "REDIS_URL": "secret `redis-url`",
    "HF_TOKEN": "secret `hf-token`",
    "OTEL_EXPORTER_OTLP_HEADERS": "secret `otlp-headers`",
    "METEOR_INTERNAL_TOKEN": "secret `internal-token`",
    "METEOR_API_KEYS": "secret `api-keys`",
    "METEOR_API_KEY_SECRET": "secret `api-key-secret`",
    "METEOR_API_WEBHOOK_KEY": "secret `webhook-key`",
    "METEOR_API_METRICS_TOKEN": "secret `metrics-token`",
    "METEOR_TEACHER_API_KEY": "secret `teacher-api-key`",
    "METEOR_TEACHER_HEADERS": "secret `teacher-headers`",
    "METEOR_JUDGE_API_KEY": "secret `judge-api-key`",
    "METEOR_JUDGE_HEADERS": "secret `judge-headers`",
    "METEOR_TRAINER_RAY_TOKEN": "secret `ray-token`",
    "AWS_ACCESS_KEY_ID": "secret `aws-access-key-id`",
    "AWS_SECRET_ACCESS_KEY": "secret `aws-secret-access-key`",
    "METEOR_DATA": FIXED,
    "METEOR_MODELS": FIXED,
    "METEOR_API_HOST": FIXED,
    "METEOR_API_PORT": FIXED,
    "METEOR_API_GATEWAY_URL": FIXED,
    "METEOR_API_ENGINE_URL": "`engine.external.url`",
    "METEOR_API_ENGINE_CONTROL_URL": "`engine.external.controlUrl`",
    "METEOR_WEAK_ENGINE_URL": "`engine.external.url`",
    "METEOR_WEAK_ENGINE_CONTROL_URL": "`engine.external.controlUrl`",
    "METEOR_STRONG_HOST": FIXED,
    "METEOR_STRONG_PORT": FIXED,
    "METEOR_STRONG_GATEWAY_URL": FIXED,
    "METEOR_JUDGE_GATEWAY_URL": FIXED,
    "METEOR_ENGINE_HOST": FIXED,
    "METEOR_ENGINE_PORT": FIXED,
    "METEOR_ENGINE_CONTROL_PORT": FIXED,
    "METEOR_ENGINE_ADAPTERS": FIXED,
    "METEOR_LOG_LEVEL": "`logs.level`",
    "METEOR_LOG_JSON": "`logs.json`",
    "METEOR_CA_BUNDLE": "`caBundle`",
    "METEOR_STUDENT_MODEL": "`student.model`",
    "METEOR_STUDENT_PATH": "`student.model`",
    "METEOR_STUDENTS": "`student.others`",
    "METEOR_STUDENT_TEMPLATE": "`student.template`",
    "METEOR_STUDENT_TEMPLATE_ARGS": "`student.templateArgs`",
    "METEOR_PROVIDERS_FILE": "`providers.toml`",
    "METEOR_TEACHER_BASE_URL": "`teacher.baseUrl`",
    "METEOR_TEACHER_MODEL": "`teacher.model`",
    "METEOR_TEACHER_PRICE_INPUT": "`teacher.priceInput`",
    "METEOR_TEACHER_PRICE_OUTPUT": "`teacher.priceOutput`",
    "METEOR_JUDGE_BASE_URL": "`judgeModel.baseUrl`",
    "METEOR_JUDGE_MODEL": "`judgeModel.model`",
    "METEOR_JUDGE_PRICE_INPUT": "`judgeModel.priceInput`",
    "METEOR_JUDGE_PRICE_OUTPUT": "`judgeModel.priceOutput`",
    "METEOR_ORCHESTRATOR_MAX_JOBS": "`orchestrator.maxJobs`",
    "METEOR_STRONG_CONCURRENCY": "`gateway.concurrency`",
    "METEOR_STRONG_SLOTS": "`strongWorker.slots`",
    "METEOR_WEAK_SLOTS": "`weakWorker.slots`",
    "METEOR_JUDGE_SLOTS": "`judge.slots`",
    "METEOR_TRAINER_MEMORY_GB": "`trainer.memoryGb`",
    "METEOR_TRAINER_GPUS": "`trainer.gpus.count`",
    "METEOR_ENGINE_GPU_MEMORY_UTILIZATION": "`engine.gpuMemoryUtilization`",
    "METEOR_ENGINE_MAX_LORA_RANK": "`engine.maxLoraRank`",
    "METEOR_ENGINE_MAX_MODEL_LEN": "`engine.maxModelLen`",
    "METEOR_ENGINE_MAX_NUM_SEQS": "`engine.maxNumSeqs`",
    "METEOR_ENGINE_START_TIMEOUT": "`engine.startMinutes`",
}
OF_OBJECTS = {"AWS_ENDPOINT_URL", "AWS_REGION"}  # no secrets
# Read by libraries: by huggingface_hub, by OpenTelemetry's SDK, by obstore.
OTHERS_READ = {"HF_HUB_OFFLINE", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"}
OTHERS_READ |= {*OF_OBJECTS, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
RUNNER_ALONE = {"METEOR_READY_TIMEOUT_S"}

HEAD = """# Where variables are set

[settings.md](settings.md) says what each variable means. This page says where it is set: which value of the Helm chart
([kubernetes.md](../how-to/kubernetes.md)), which line of `docker-compose.yml`, and what the local runner (`meteor up`) does with it.

- chart: a value, a key of the Secret, or `the chart` where nothing has to be set. `X.settings` is a map of variables: `api: {settings: {METEOR_API_SHADOWS: 8}}`.
  `settings` alone is for all processes.
- Compose: `.env` where `docker-compose.yml` takes the variable from there (under its own name unless another is given), `fixed` where the file sets it. `-`: add
  it to the service's `environment`.
- local runner: `runner` where it chooses a value itself, `environment` where processes inherit yours.

`python -m tests.variables` writes this page, and the names in the chart's schema, from the settings classes. A test holds both.

| variable | read by | chart | Compose | local runner |
|---|---|---|---|---|
"""


def names_of(settings: type[BaseSettings], field: str) -> list[str]:
    """A field's variables, the usual one first."""
    alias = settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [str(alias or f"{settings.model_config.get('env_prefix', '')}{field}").upper()]


def variables_of(classes: Classes) -> list[str]:
    return list(dict.fromkeys(names_of(one, field)[0] for one in classes for field in one.model_fields))


def all_names() -> set[str]:
    """Every variable that a settings class reads, under each of its names."""
    return {name for one in CLASSES for field in one.model_fields for name in names_of(one, field)}


def readers(variable: str) -> list[str]:
    """The processes with a class that names it, as usual name or as the one that stands in."""
    return [
        process
        for process, classes in READS.items()
        if any(variable in names_of(one, field) for one in classes for field in one.model_fields)
    ]


def allowed(classes: Classes) -> list[str]:
    """What may stand in a map of settings: all but what has a place of its own."""
    traced = {name for name in OTHERS_READ if name.startswith("OTEL_")} if TraceSettings in classes else set()
    stored = OF_OBJECTS if PlatformSettings in classes else set()
    return sorted((set(variables_of(classes)) | traced | stored) - PLACES.keys())


def in_chart(variable: str) -> str:
    if variable in RUNNER_ALONE:
        return "-"
    if variable == "HF_HUB_OFFLINE":
        return "`trainer.hub`"
    if variable in PLACES:
        return PLACES[variable]
    if variable in allowed(COMMON):
        return "`settings`"
    return ", ".join(f"`{process}.settings`" for process in readers(variable))


@cache
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def in_compose(variable: str) -> str:
    values = [str(one["environment"][variable]) for one in compose().values() if variable in one.get("environment", {})]
    if not values:
        return "-"
    sources = {name for value in values for name in re.findall(r"(?<!\$)\$\{([A-Z][A-Z0-9_]*)", value)}
    if not sources:
        return "fixed"
    return "`.env`" if sources == {variable} else "`.env`: " + ", ".join(f"`{name}`" for name in sorted(sources))


@cache
def chosen_by_the_runner() -> frozenset[str]:
    """What it sets although nobody gave it, in a plan with every process and made-up models."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = []
        for name in ("student", "teacher"):
            folder = Path(scratch) / name
            folder.mkdir()
            (folder / "config.json").write_text('{"model_type": "llama"}')
            (folder / "model.safetensors").touch()
            folders.append(str(folder))
        plan = make_plan(
            Path(scratch) / "data", None, {"METEOR_STUDENT_PATH": folders[0], "METEOR_TEACHER_MODEL": folders[1]}
        )
    return frozenset(name for spec in plan.specs for name in spec.env)


def in_runner(variable: str) -> str:
    return "runner" if variable in chosen_by_the_runner() else "environment"


@dataclass(frozen=True)
class Row:
    variable: str
    readers: str
    chart: str
    compose: str
    runner: str

    def __str__(self) -> str:
        return f"| `{self.variable}` | {self.readers} | {self.chart} | {self.compose} | {self.runner} |"


def rows() -> Iterator[Row]:
    for variable in sorted({*variables_of(CLASSES), *OTHERS_READ}):
        who = readers(variable)
        read = "all" if len(who) == len(READS) else ", ".join(who) or "local runner"
        if set(READS) - set(who) == {"engine"}:
            read = "all but engine"
        if variable in OTHERS_READ:
            read = "a library"
        yield Row(variable, read, in_chart(variable), in_compose(variable), in_runner(variable))


def page() -> str:
    return HEAD + "\n".join(str(row) for row in rows()) + "\n"


def schema() -> str:
    """values.schema.json with the names that its maps of settings may hold."""
    text = json.loads(SCHEMA.read_text())
    for place, classes in {"all": COMMON, **READS}.items():
        names = f"^({'|'.join(allowed(classes))})$"
        text["$defs"][f"settings.{place}"]["patternProperties"] = {names: {"type": ["string", "number", "boolean"]}}
    return json.dumps(text, indent=2) + "\n"


def main() -> None:
    PAGE.write_text(page())
    SCHEMA.write_text(schema())


if __name__ == "__main__":
    main()
