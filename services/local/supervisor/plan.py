"""What runs on one machine: ten processes, their addresses, and who gets which environment."""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import shared
from services.local.models import prepare as models
from services.local.models.prepare import PreparedModel
from services.local.settings import PREFERRED_API_PORT, LocalSettings
from services.local.supervisor import broker, ports
from services.local.supervisor.processes import ProcessSpec
from services.local.supervisor.readiness import http_readiness, platform_of, readiness
from shared.contracts.errors import UserError
from shared.contracts.steps import Queue
from shared.platform.providers import FILE, ProviderEntry, given_providers, providers_path, secret_variables
from shared.platform.run_state import token_path
from shared.security.secret_file import kept_secret

MODULES: dict[str, list[str]] = {
    "broker": [],
    "student-engine": ["services.weak_model", "engine"],
    "teacher-engine": ["services.weak_model", "engine"],
    "gateway": ["services.strong_model", "gateway"],
    "strong-worker": ["services.strong_model", "worker"],
    "judge-worker": ["services.judge"],
    "weak-worker": ["services.weak_model", "worker"],
    "trainer": ["services.trainer"],
    "orchestrator": ["services.orchestrator"],
    "api": ["services.api"],
}
NAMES = tuple(MODULES)
CONSUMERS = {
    Queue.STRONG: "strong-worker",
    Queue.JUDGE: "judge-worker",
    Queue.WEAK: "weak-worker",
    Queue.TRAIN: "trainer",
}
USE_DATABASE = {"gateway", "orchestrator", "api"}
NEED_STUDENT = {"student-engine", "trainer", "orchestrator"}
# Secrets reach the one process that needs them.
ONLY_GATEWAY = ("METEOR_TEACHER_API_KEY", "METEOR_TEACHER_HEADERS", "METEOR_JUDGE_API_KEY", "METEOR_JUDGE_HEADERS")
ONLY_API = ("METEOR_API_KEYS", "METEOR_API_KEY_SECRET")
ONLY_TRAINER = ("METEOR_TRAINER_RAY_TOKEN",)
# The C library keeps a heap for each thread of a process; two are enough for services that mostly wait.
LEAN = {"MALLOC_ARENA_MAX": "2"}
CONTROL = "student-engine-control"  # the address where the student's engine is asked for another model
COMPUTE = ("broker", "student-engine", "teacher-engine", "trainer")
HERE = Path(shared.__path__[0]).resolve().parent


@dataclass
class ProcessPlan:
    """specs in the order of starting. api_moves: the api's port was not asked for, so it may change."""

    data: Path
    specs: list[ProcessSpec]
    urls: dict[str, str]
    remarks: list[str]
    api_moves: bool
    taken: set[int]


@dataclass
class _Draft:
    data: Path
    environment: dict[str, str]
    settings: LocalSettings
    names: list[str]
    providers: dict[str, ProviderEntry] = field(default_factory=dict)
    providers_file: Path | None = None
    taken: set[int] = field(default_factory=set)
    addresses: dict[str, int] = field(default_factory=dict)

    def url(self, name: str, given: str) -> str:
        """Where a process of ours listens; else what was given."""
        return f"http://{ports.LOOPBACK}:{self.addresses[name]}" if name in self.addresses else given


def python_path(environment: Mapping[str, str] = os.environ) -> str:
    """So that children find this very code, from whatever folder they are started."""
    return os.pathsep.join(filter(None, [str(HERE), environment.get("PYTHONPATH")]))


def wanted(
    names: Iterable[str] | None, settings: LocalSettings, providers: Mapping[str, ProviderEntry] | None = None
) -> list[str]:
    """The processes to start, in order, without those that a given URL or provider replaces. Raises UserError for unknown
    names."""
    chosen = NAMES if names is None else tuple(names)
    unknown = set(chosen) - set(NAMES)
    if unknown:
        raise UserError(f"no process is named {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    replaced = {
        "broker": settings.redis_url,
        "student-engine": settings.weak_engine_url,
        "teacher-engine": settings.teacher_base_url or "default" in (providers or {}),
    }
    return [name for name in NAMES if name in chosen and not replaced.get(name)]


def make_plan(data: Path, names: Iterable[str] | None, environment: Mapping[str, str]) -> ProcessPlan:
    """Choose ports, find the models, build every process's environment. Starts nothing.

    Raises UserError (PortTaken, ModelRefused): a port in use, an unknown process, a model that was not prepared.
    """
    settings = LocalSettings.of(environment)
    file = providers_path(settings.providers_file, data)
    providers = given_providers(file, environment)
    draft = _Draft(data, dict(environment), settings, wanted(names, settings, providers), providers, file)
    remarks: list[str] = []
    for name in draft.names:
        if name == "api":
            draft.addresses[name], remark = ports.api_port(settings.api_port, PREFERRED_API_PORT, draft.taken)
            remarks += [remark] if remark else []
        elif name in ("broker", "gateway", "student-engine", "teacher-engine"):
            draft.addresses[name] = ports.pick(draft.taken)
        if name == "student-engine":
            draft.addresses[CONTROL] = ports.pick(draft.taken)
    token = environment.get("METEOR_INTERNAL_TOKEN") or kept_secret(token_path(data))
    common, argv = _common(draft, token)
    specs = []
    for name in draft.names:
        command = argv if name == "broker" else [sys.executable, "-m", *MODULES[name]]
        env = common | _own(draft, name, token) | ({} if name in COMPUTE else LEAN)
        port = draft.addresses.get(name)
        specs.append(ProcessSpec(name, command, env, readiness(data, name, common, port), port))
    urls = {name: draft.url(name, "") for name in draft.addresses if name != "broker"}
    return ProcessPlan(data, specs, urls, remarks, settings.api_port is None, draft.taken)


def migrate(plan: ProcessPlan) -> None:
    """The newest schema before the processes start, so that none of them has to load what makes it."""
    if not any(spec.name in CONSUMERS.values() or spec.name in USE_DATABASE for spec in plan.specs):
        return
    from services.local.supervisor import databases  # here: it loads SQLAlchemy, and most commands start nothing

    databases.migrate(platform_of(plan.data, plan.specs[0].env))


def models_needed(
    names: Iterable[str] | None, environment: Mapping[str, str], data: Path = Path(".meteor")
) -> list[str]:
    """The models (names, folders or hub ids) that have to be prepared before a start."""
    settings = LocalSettings.of(environment)
    file = providers_path(settings.providers_file, data)
    chosen = wanted(names, settings, given_providers(file, environment))
    student = str(settings.student_path or settings.student_model)
    needed = [student, *models.students(settings.students).values()] if NEED_STUDENT & set(chosen) else []
    return needed + ([settings.teacher_model] if "teacher-engine" in chosen else [])


def _common(draft: _Draft, token: str) -> tuple[dict[str, str], list[str]]:
    """The environment that all have, and the broker's command line (empty when none is started)."""
    settings, given = draft.settings, draft.environment
    command: list[str] = []
    redis_url = settings.redis_url
    if "broker" in draft.addresses:
        secret, port = broker.password(draft.data), draft.addresses["broker"]
        redis_url, command = broker.url(port, secret), broker.command(draft.data, port, secret)
    if not redis_url:
        raise UserError("without the process `broker`, REDIS_URL has to say where one runs")
    gateway = draft.url("gateway", given.get("METEOR_STRONG_GATEWAY_URL", "http://127.0.0.1:8200"))
    engine = draft.url("student-engine", settings.weak_engine_url)
    secret = {
        *ONLY_GATEWAY,
        *ONLY_API,
        *ONLY_TRAINER,
        *secret_variables(draft.providers.values()),
        "METEOR_ENGINE_CONTROL_PORT",
    }
    common = {name: value for name, value in given.items() if name not in secret}
    common |= {
        "PYTHONPATH": python_path(given),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",  # models are prepared before; nothing is fetched in the middle of a job
        "METEOR_DATA": str(draft.data),
        "METEOR_INTERNAL_TOKEN": token,
        "REDIS_URL": redis_url,
        "METEOR_STRONG_GATEWAY_URL": gateway,
        "METEOR_JUDGE_GATEWAY_URL": gateway,
        "METEOR_API_GATEWAY_URL": gateway,
    }
    if engine:
        common |= {"METEOR_WEAK_ENGINE_URL": engine, "METEOR_API_ENGINE_URL": engine}
    control = draft.url(CONTROL, settings.weak_engine_control_url)
    if control:
        common |= {"METEOR_WEAK_ENGINE_CONTROL_URL": control, "METEOR_API_ENGINE_CONTROL_URL": control}
        common |= {"METEOR_TRAINER_ENGINE_CONTROL_URL": control}
    student = _student(draft)
    if student:
        common |= {"METEOR_STUDENT_MODEL": student[0], "METEOR_STUDENT_PATH": str(student[1].path)}
    others = {name: _prepared(draft, source) for name, source in models.students(settings.students).items()}
    common["METEOR_STUDENTS"] = ",".join(f"{name}={model.path}" for name, model in others.items() if model)
    return common, command


def _student(draft: _Draft) -> tuple[str, PreparedModel] | None:
    """(served name, folder) of the student. Raises UserError when a process needs it and it was not prepared."""
    settings = draft.settings
    source = str(settings.student_path or settings.student_model)
    model = _prepared(draft, source)
    if model is None:
        return None
    name = draft.environment.get("METEOR_STUDENT_MODEL") if settings.student_path else None
    return name or model.name, model


def _prepared(draft: _Draft, source: str) -> PreparedModel | None:
    """A student's folder; None when it was not prepared. Raises UserError when a process needs it."""
    model = models.find(source, draft.settings.models)
    if model is None and NEED_STUDENT & set(draft.names):
        raise UserError(f"{source} was not prepared; run `meteor models pull {source}`")
    return model


def _own(draft: _Draft, name: str, token: str) -> dict[str, str]:
    """What only this process gets."""
    given, port = draft.environment, str(draft.addresses.get(name, ""))
    if name == "api":
        return {"METEOR_API_PORT": port} | {key: given[key] for key in ONLY_API if given.get(key)}
    if name == "trainer":
        return {key: given[key] for key in ONLY_TRAINER if given.get(key)}
    if name.endswith("engine"):
        return _engine(draft, name, port)
    if name == "gateway":
        secrets = (*ONLY_GATEWAY, *secret_variables(draft.providers.values()))
        own = {"METEOR_STRONG_PORT": port} | {key: given[key] for key in secrets if given.get(key)}
        own |= {FILE: str(draft.providers_file.resolve())} if draft.providers_file else {}
        if "teacher-engine" in draft.addresses:
            own["METEOR_TEACHER_BASE_URL"] = draft.url("teacher-engine", "") + "/v1"
            own["METEOR_TEACHER_MODEL"] = models.served_name(draft.settings.teacher_model)
            own["METEOR_TEACHER_API_KEY"] = token
        return own
    return {}


def _engine(draft: _Draft, name: str, port: str) -> dict[str, str]:
    """Which model an engine serves, and its share of the cores, or of the GPU, that two engines and the trainer use."""
    given, teacher = draft.environment, name == "teacher-engine"
    if teacher:
        model = models.find(draft.settings.teacher_model, draft.settings.models)
        served = model.name if model else ""
    else:
        served, model = _student(draft) or ("", None)
    if model is None:
        source = draft.settings.teacher_model
        raise UserError(f"{source} was not prepared; run `meteor models pull {source}`")
    own = {
        "METEOR_ENGINE_PORT": port,
        "METEOR_ENGINE_MODEL": str(model.path),
        "METEOR_ENGINE_SERVED_NAME": served,
    }
    if CONTROL in draft.addresses and not teacher:
        own["METEOR_ENGINE_CONTROL_PORT"] = str(draft.addresses[CONTROL])
    if teacher:
        own["METEOR_ENGINE_LORA"] = "false"
        own["METEOR_DEVICE_SHARING"] = "memory"  # the student's engine alone lends the device
        own["METEOR_ENGINE_MAX_MODEL_LEN"] = given.get("METEOR_ENGINE_MAX_MODEL_LEN", "4096")
    if "teacher-engine" in draft.addresses:
        own["METEOR_ENGINE_GPU_MEMORY_UTILIZATION"] = given.get("METEOR_ENGINE_GPU_MEMORY_UTILIZATION", "0.3")
        cores = len(os.sched_getaffinity(0))
        # The student decodes in many small steps, where threads mostly wait for each other; the larger teacher reads long prompts.
        threads = str(cores if teacher else max(1, cores // 2))
        own["METEOR_ENGINE_THREADS"] = given.get("METEOR_ENGINE_THREADS", threads)
        # 22,000 tokens of the embedded teacher, 17,000 of the student: both engines and training fit into 14 GB.
        own["METEOR_ENGINE_KV_CACHE_GB"] = given.get("METEOR_ENGINE_KV_CACHE_GB", "0.5" if teacher else "0.75")
    return own


def moved(plan: ProcessPlan, spec: ProcessSpec) -> ProcessSpec:
    """The api on another free port: somebody took the one that was chosen."""
    port = ports.pick(plan.taken)
    plan.urls["api"] = f"http://{ports.LOOPBACK}:{port}"
    return ProcessSpec(
        spec.name, spec.argv, spec.env | {"METEOR_API_PORT": str(port)}, http_readiness(port, "/healthz"), port
    )
