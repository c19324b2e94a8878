"""Supervises one training process per step. Imports no model library."""

import asyncio
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from services.trainer.settings import TrainerSettings, trainer_settings
from services.trainer.spec import MESSAGE, Done, Failed, Spec, Tick
from shared.artifacts.serving import CONFIG
from shared.artifacts.store import write_atomically
from shared.contracts.errors import FatalError, TransientError, UserError
from shared.contracts.export_steps import MergeParams
from shared.contracts.steps import Method, ScoreParams, SearchParams, StepKind, TrainParams, Wire
from shared.platform.guarded_process import GuardedProcess
from shared.platform.object_url import opens_objects

ADAPTER, FULL, ROWS, CURVE = "adapter", "weights", "rows.json", "curve.json"  # inside a spec's output folder
SECRETS = ("METEOR_INTERNAL_TOKEN", "DATABASE_URL", "METEOR_DATABASE_URL", "REDIS_URL", "METEOR_REDIS_URL")
SECRETS += ("METEOR_TRAINER_RAY_TOKEN",)
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
GPUS = "CUDA_VISIBLE_DEVICES"
LINE_BYTES = 1 << 20
UNEXPECTED = "training_failed"  # the code of errors that nobody foresaw
HUB_TOKEN = "HF_TOKEN"  # noqa: S105 - the variable's name
Params = TrainParams | SearchParams | ScoreParams | MergeParams


def plan(
    kind: StepKind,
    params: Params,
    rows: Sequence[Wire],
    model: Path,
    adapter: Path | None,
    scratch: Path,
    settings: TrainerSettings,
) -> Spec:
    """model: the folder of the weights to start from, a base's or those of an earlier full training.

    Raises UserError when there are no rows, FatalError when the adapter belongs to another base.
    """
    if not rows:
        raise UserError("there are no rows to train on", code="no_rows")
    if adapter is not None:
        base = json.loads((adapter / CONFIG).read_bytes())["base_model_name_or_path"]
        if base != params.model.base:
            raise FatalError(f"the adapter was made for {base!r}, not {params.model.base!r}", code="wrong_student")
    return Spec(
        kind=kind,
        params=params.model_dump(mode="json"),
        rows=[row.model_dump(mode="json") for row in rows],
        base=model.resolve(),
        adapter=adapter.resolve() if adapter else None,
        output=scratch.resolve() / "output",
        checkpoints=scratch.resolve() / "checkpoints",
        checkpoint_every_s=settings.checkpoint_every.total_seconds(),
        checkpoint_steps=settings.checkpoint_steps,
        threads=settings.threads,
        processes=processes(kind, settings),
        padding_free=settings.padding_free,
        fsdp=settings.fsdp,
        memory_gb=settings.memory_gb,
    )


def plan_on_folder(
    kind: StepKind, params: Wire | dict[str, str], folder: Path, scratch: Path, settings: TrainerSettings
) -> Spec:
    """For a kind that works on the files of a folder, without rows and without a student."""
    return Spec(
        kind=kind,
        params=params.model_dump(mode="json") if isinstance(params, Wire) else params,
        rows=[],
        base=folder.resolve(),
        adapter=None,
        output=scratch.resolve() / "output",
        checkpoints=scratch.resolve() / "checkpoints",
        threads=settings.threads,
    )


def bytes_to_write(params: Params, model: Path) -> int:
    """Bytes of the step's next large write; 0 where it writes little.

    A checkpoint of a full training takes 12 bytes per parameter (float32 and two moments), a merged model (of DoRA too) 8 (float32, its
    files and their copy among the artifacts). Parameters are counted in the headers of the safetensors files: 8 bytes of
    length, then JSON with each tensor's shape.
    """
    if isinstance(params, TrainParams) and params.method is Method.FULL:
        per_parameter = 12
    elif (isinstance(params, TrainParams) and params.adapter.use_dora) or (
        isinstance(params, MergeParams) and params.keep and params.model.weights is None
    ):
        per_parameter = 8
    else:
        return 0
    total = 0
    for path in model.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return per_parameter * total


def processes(kind: StepKind, settings: TrainerSettings) -> int:
    """How many work at a step together."""
    if kind not in (StepKind.SFT, StepKind.DPO):
        return 1
    return settings.processes or len(settings.gpus.split(","))


def visible_gpus(spec: Spec, settings: TrainerSettings, given: str | None) -> str | None:
    """CUDA_VISIBLE_DEVICES of a step: as many as it has processes, for a library that sees more splits the work by itself.

    given: that of this process. None: this process's own, untouched; there is no such variable where CUDA has no device.
    """
    if given == "":
        return given
    named = [name for name in (settings.gpus or given or "").split(",") if name]
    return ",".join(named[: spec.processes] or map(str, range(spec.processes)))


def command(spec: Spec, path: Path) -> list[str]:
    """torchrun starts the processes of a step that has several, tells them about each other, and ends all when one fails."""
    module = ["-m", "services.trainer.train", str(path)]
    if spec.processes == 1:
        return [sys.executable, *module]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(spec.processes)]
    return [*launcher, *module]


def child_environment(kind: StepKind, gpus: str | None = None) -> dict[str, str]:
    """This process's environment without secrets and offline; PUSH alone gets the hub and its token."""
    inherited = {name: value for name, value in os.environ.items() if not (name in SECRETS or opens_objects(name))}
    if gpus is not None:
        inherited[GPUS] = gpus
    if kind is StepKind.PUSH:  # the local runner sets HF_HUB_OFFLINE for every process
        return {name: value for name, value in (inherited | OFFLINE).items() if name != "HF_HUB_OFFLINE"}
    return {name: value for name, value in inherited.items() if name != HUB_TOKEN} | OFFLINE


async def run(spec: Spec, log: Path, on_progress: Callable[..., None], stop_within_s: float) -> Done:
    """Run one training process to its end, reporting on_progress(done, total, **metrics).

    Raises the error that the process reports, or TransientError `training_process_lost` when it died without one; FatalError
    `artifact_missing` instead of an unexpected one where a file that it was given is gone. On cancellation its whole family has
    ended before this returns.
    """
    given = _sizes(spec)
    path = spec.output.parent / "spec.json"
    write_atomically(path, spec.model_dump_json().encode())
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = child_environment(spec.kind, visible_gpus(spec, trainer_settings(), os.environ.get(GPUS)))
    with log.open("ab") as stderr:
        process = GuardedProcess(command(spec, path), environment, stdout=subprocess.PIPE, stderr=stderr)
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), process.stdout
    )
    try:
        last = await _follow(reader, on_progress)
        await asyncio.to_thread(process.wait)
    finally:
        await asyncio.to_thread(process.end, stop_within_s)
        transport.close()
    if isinstance(last, Done):
        return last
    if not isinstance(last, Failed) or last.code == UNEXPECTED:
        _check_still_there(given, spec)
    if isinstance(last, Failed):
        raise last.error()
    code = process.exit_code or 0
    how = f"signal {code - 128}" if code > 128 else f"exit code {code}"
    raise TransientError(f"the training process ended by {how}; see {log.name}", code="training_process_lost")


def _sizes(spec: Spec) -> dict[Path, int]:
    """Bytes of each file that the process is given to read."""
    folders = [folder for folder in (spec.base, spec.adapter) if folder is not None]
    return {path: path.stat().st_size for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}


def _check_still_there(given: Mapping[Path, int], spec: Spec) -> None:
    """Raises FatalError for a file that was removed or cut off while the process ran, or a folder that held none."""
    now = _sizes(spec)
    changed = [path for path, size in given.items() if now.get(path) != size]
    empty = [spec.base] if not any(path.is_relative_to(spec.base) for path in given) else []
    if lost := [*empty, *changed]:
        more = f" and {len(lost) - 1} more" if lost[1:] else ""
        raise FatalError(
            f"{lost[0]}{more} is missing or was changed; it is read by this training. Put it back, or run the step that made it again",
            code="artifact_missing",
        )


async def _follow(lines: asyncio.StreamReader, on_progress: Callable[..., None]) -> Done | Failed | None:
    """Report ticks as they come; returns the process's last message, or None."""
    last: Done | Failed | None = None
    async for line in lines:
        if not line.endswith(b"\n"):
            break  # killed in the middle of a line
        message = MESSAGE.validate_json(line)
        if isinstance(message, Tick):
            on_progress(message.done, message.total, **message.metrics)
        elif not isinstance(last, Failed):  # of several processes the first to fail knows why; the others lost it
            last = message
    return last


def sweep(scratch: Path, older_than_s: float) -> None:
    """Remove the folders of cancelled and lost steps in which nothing was written for older_than_s."""
    if not scratch.is_dir():
        return
    for folder in scratch.iterdir():
        newest = max((path.stat().st_mtime for path in [folder, *folder.rglob("*")]), default=0.0)
        if time.time() - newest > older_than_s:
            shutil.rmtree(folder, ignore_errors=True)
