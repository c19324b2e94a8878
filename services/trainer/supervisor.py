"""Supervises one training process per step and publishes what it leaves. Imports no model library."""

import asyncio
import contextlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.trainer.settings import TrainerSettings
from services.trainer.spec import LINE, Done, Failed, Spec, Tick
from shared.artifacts.bases import Bases
from shared.artifacts.store import Artifacts, write_atomically
from shared.contracts.errors import FatalError, MeteorError, TransientError, UserError
from shared.contracts.export_steps import MergeParams
from shared.contracts.steps import Method, ScoreParams, SearchParams, StepKind, TrainParams
from shared.platform import process_guard

ADAPTER, FULL, ROWS, CURVE = "adapter", "weights", "rows.json", "curve.json"  # inside a spec's output folder
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
FAMILIES: dict[str, type[MeteorError]] = {"user": UserError, "transient": TransientError, "fatal": FatalError}
NOT_FOR_THE_CHILD = ("METEOR_INTERNAL_TOKEN", "DATABASE_URL", "METEOR_DATABASE_URL", "REDIS_URL", "METEOR_REDIS_URL")
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
LINE_LIMIT = 1 << 20
HUB_TOKEN = "HF_TOKEN"  # noqa: S105 - the variable's name
Params = TrainParams | SearchParams | ScoreParams | MergeParams


def serving_base(settings: TrainerSettings, bases: Bases, base: str) -> str:
    """What the engine's resolver compares an adapter's base with, spelled as the engine was given it."""
    found = bases.find(base)
    if settings.serving_base and base == bases.default.name:
        return settings.serving_base
    return str(found.folder if found else base)


def plan(
    kind: StepKind,
    params: Params,
    rows: list[dict[str, Any]],
    model: Path,
    adapter: Path | None,
    scratch: Path,
    settings: TrainerSettings,
) -> Spec:
    """model: the folder of the weights to start from, a base's or those of an earlier full training.

    Raises UserError when there is nothing to do, FatalError when the adapter does not fit.
    """
    if not rows:
        raise UserError("there are no rows to train on", code="no_rows")
    if adapter is not None:
        made_for = json.loads((adapter / CONFIG).read_bytes())["base_model_name_or_path"]
        if made_for != params.model.base:
            raise FatalError(f"the adapter was made for {made_for!r}, not {params.model.base!r}", code="wrong_student")
    return Spec(
        kind=kind,
        params=params.model_dump(mode="json"),
        rows=rows,
        base=model.resolve(),
        adapter=adapter.resolve() if adapter else None,
        output=scratch.resolve() / "output",
        checkpoints=scratch.resolve() / "checkpoints",
        checkpoint_every_s=settings.checkpoint_every.total_seconds(),
        checkpoint_steps=settings.checkpoint_steps,
        threads=settings.threads,
        memory_gb=settings.memory_gb,
    )


def bytes_to_write(params: Params, model: Path) -> int:
    """What the work writes next, where it is much: a checkpoint of a training of all weights is 12 bytes a parameter (float32,
    two moments), a merged model 8 (float32, its files and their copy among the artifacts). Read from the headers of the model's safetensors files: 8 bytes of length, then JSON with each tensor's shape."""
    if isinstance(params, TrainParams) and params.method is Method.FULL:
        per_parameter = 12
    elif isinstance(params, MergeParams) and params.keep and params.model.weights is None:
        per_parameter = 8
    else:
        return 0
    total = 0
    for path in model.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return per_parameter * total


def on_folder(kind: StepKind, params: dict[str, Any], folder: Path, scratch: Path, settings: TrainerSettings) -> Spec:
    """Work on the files of a folder, without rows and without a student."""
    return Spec(
        kind=kind,
        params=params,
        rows=[],
        base=folder.resolve(),
        adapter=None,
        output=scratch.resolve() / "output",
        checkpoints=scratch.resolve() / "checkpoints",
        threads=settings.threads,
    )


def child_environment(kind: StepKind) -> dict[str, str]:
    """Ours without the secrets; no hub is asked for anything, except by the one kind that pushes to it with its token."""
    ours = {k: v for k, v in os.environ.items() if k not in NOT_FOR_THE_CHILD}
    if kind is StepKind.PUSH:  # the local runner keeps every process off the hub
        return {k: v for k, v in (ours | OFFLINE).items() if k != "HF_HUB_OFFLINE"}
    return {k: v for k, v in ours.items() if k != HUB_TOKEN} | OFFLINE


async def run(spec: Spec, log: Path, progress: Callable[..., None], stop_within_s: float) -> Done:
    """Run one training process to its end, reporting progress(done, total, **metrics).

    Raises the error that the process reports, or TransientError `training_process_lost` when it died without a word.
    On cancellation its whole family is gone before this returns.
    """
    path = spec.output.parent / "spec.json"
    write_atomically(path, spec.model_dump_json().encode())
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = child_environment(spec.kind)
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            *process_guard.command([sys.executable, "-m", "services.trainer.train", str(path)]),
            stdin=asyncio.subprocess.PIPE,  # the guard ends the family when this closes, whatever ends us
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env=environment,
            limit=LINE_LIMIT,
        )
    try:
        last = await _follow(process, progress)
        code = await process.wait()
    finally:
        await _end(process, stop_within_s)
    if isinstance(last, Done):
        return last
    if isinstance(last, Failed):
        raise FAMILIES[last.family](last.message, code=last.code, param=last.param)
    how = f"signal {code - 128}" if code > 128 else f"exit code {code}"
    raise TransientError(f"the training process ended by {how}; see {log.name}", code="training_process_lost")


async def _follow(process: asyncio.subprocess.Process, progress: Callable[..., None]) -> Done | Failed | None:
    """The process's last word, or None. Ticks go to progress as they come."""
    assert process.stdout is not None
    last: Done | Failed | None = None
    async for line in process.stdout:
        if not line.endswith(b"\n"):
            break  # killed in the middle of a line
        word = LINE.validate_json(line)
        if isinstance(word, Tick):
            progress(word.done, word.total, **word.metrics)
        else:
            last = word
    return last


async def _end(process: asyncio.subprocess.Process, within_s: float) -> None:
    """Make sure that the guard and all it guards are gone."""
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(within_s):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):  # it may have ended just now
                process.kill()  # the kernel then kills the child too (PR_SET_PDEATHSIG)
            await process.wait()
    if process.stdin is not None:
        process.stdin.close()


def publish(adapter: Path, artifacts: Artifacts, serving: Path, base: str) -> str:
    """Store the adapter by content hash and lay its serving copy where the engine looks; returns the hash.

    The artifact names the canonical base, the same on every machine; the serving copy names what the engine compares.
    """
    if sorted(p.name for p in adapter.iterdir()) != [CONFIG, WEIGHTS]:
        raise FatalError(f"{adapter} is not an adapter alone: {sorted(p.name for p in adapter.iterdir())}")
    digest = artifacts.put_folder(adapter)

    def fill(fresh: Path) -> None:
        config = json.loads((adapter / CONFIG).read_bytes()) | {"base_model_name_or_path": base}
        (fresh / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))
        shutil.copyfile(artifacts.folder(digest) / WEIGHTS, fresh / WEIGHTS)

    _lay(serving / digest, fill)
    return digest


def publish_weights(weights: Path, artifacts: Artifacts, serving: Path) -> str:
    """As publish, of a whole model: the serving copy is the artifact's files once more, without taking the space twice."""
    names = {p.name for p in weights.iterdir()}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise FatalError(f"{weights} is not a model folder: {sorted(names)}")
    digest = artifacts.put_folder(weights)

    def fill(fresh: Path) -> None:
        for path in artifacts.folder(digest).iterdir():
            laid(path, fresh / path.name)

    _lay(serving / digest, fill)
    return digest


def laid(path: Path, target: Path) -> None:
    """The same file under a second name, without taking the space twice where that can be."""
    try:
        os.link(path, target)
    except OSError:  # the two are on different disks
        shutil.copyfile(path, target)


def _lay(target: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder appear with all of its files at once; leaves one that is there."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix=".tmp-"))
    try:
        fresh.chmod(0o755)
        fill(fresh)
        fresh.rename(target)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        if not target.exists():  # else another process published the same content first
            raise


def sweep(scratch: Path, older_than_s: float) -> None:
    """Remove what cancelled and lost steps left behind: folders in which nothing was written for so long."""
    if not scratch.is_dir():
        return
    for folder in scratch.iterdir():
        newest = max((p.stat().st_mtime for p in [folder, *folder.rglob("*")]), default=0.0)
        if time.time() - newest > older_than_s:
            shutil.rmtree(folder, ignore_errors=True)
