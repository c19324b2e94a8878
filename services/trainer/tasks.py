"""The `train` queue: rows in; an adapter or a whole model (SFT, DPO) or rows (search, score, merge) out; and what exports need
of a device or of model libraries."""

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from services.trainer import publishing, supervisor
from services.trainer.checkpoints import kept_elsewhere
from services.trainer.device_loan import borrowed
from services.trainer.settings import trainer_settings
from services.trainer.spec import Done, Spec
from shared.artifacts import capabilities
from shared.artifacts.archives import files_of
from shared.artifacts.bases import Bases
from shared.artifacts.serving import link_or_copy
from shared.contracts.errors import FatalError
from shared.contracts.export_steps import GgufParams, MergeParams, PushParams
from shared.contracts.exports import ExportIndex
from shared.contracts.rows import StudentPrompt
from shared.contracts.steps import Method, ModelRef, ProbeParams, StepKind, StepResult, TrainParams, Wire
from shared.queue.step_handler import by_kind, step_handler
from shared.queue.step_task import StepContext


@step_handler(StepKind.MERGE)
async def merge(params: MergeParams, rows: list[StudentPrompt], context: StepContext) -> StepResult:
    """The merged model goes to the artifacts only: the engine serves base and adapter."""
    result = await _write_rows(StepKind.MERGE, params, rows, context)
    folder = params.model.weights  # a model trained whole needs no merging
    if folder is None and params.keep:
        folder = await asyncio.to_thread(context.artifacts.put_folder, context.scratch / "output" / supervisor.FULL)
    return result.model_copy(update={"folder": folder if params.keep else None})


@step_handler(StepKind.GGUF)
async def gguf(params: GgufParams, rows: list[Wire], context: StepContext) -> StepResult:
    settings = trainer_settings()
    if settings.gguf_converter is None or not settings.gguf_converter.is_file():
        raise FatalError("METEOR_GGUF_CONVERTER of the trainer names no file", code="gguf_unavailable")
    folder = await asyncio.to_thread(context.artifacts.folder, params.folder)
    converter = {"converter": str(settings.gguf_converter.resolve())}
    spec = supervisor.plan_on_folder(StepKind.GGUF, converter, folder, context.scratch, settings)
    done = await _run(spec, context)
    digest = await asyncio.to_thread(context.artifacts.put_folder, context.scratch / "output" / "folder")
    return StepResult(folder=digest, metrics=done.metrics)


@step_handler(StepKind.PUSH)
async def push(params: PushParams, rows: list[Wire], context: StepContext) -> StepResult:
    if not os.environ.get(supervisor.HUB_TOKEN):
        raise FatalError("the trainer has no HF_TOKEN, so nothing can be pushed", code="no_hub_token")
    folder = await asyncio.to_thread(_repository, params.export, context)
    spec = supervisor.plan_on_folder(StepKind.PUSH, params, folder, context.scratch, trainer_settings())
    return StepResult(metrics=(await _run(spec, context)).metrics)


@step_handler(StepKind.PROBE)
async def probe(params: ProbeParams, rows: list[Wire], context: StepContext) -> StepResult:
    """Not tried again where the same files were tried with the same libraries, among others by this trainer at its start."""
    folder = await asyncio.to_thread(Bases().folder, ModelRef(base=params.base, base_hash=params.base_hash))
    if not trainer_settings().probe:
        tried = capabilities.not_tried(params.base, folder, "METEOR_TRAINER_PROBE is off")
    else:
        context.waits_for(f"the trainer tries what {params.base} can do (once, up to a minute)")
        tried = await asyncio.to_thread(
            capabilities.ensure, capabilities.folder_of(context.settings.data), params.base, folder
        )
    return StepResult(metrics=tried.model_dump(mode="json"))


def _repository(export: str, context: StepContext) -> Path:
    """A folder with an export's files, laid out as in the repository."""
    folder = context.scratch / "push"
    shutil.rmtree(folder, ignore_errors=True)
    context.artifacts.check_room(context.scratch)
    for member in files_of(ExportIndex.model_validate(context.artifacts.get_json(export)), context.artifacts):
        target = folder / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(member.content, bytes):
            target.write_bytes(member.content)
        else:
            link_or_copy(member.content, target)
    return folder


async def _write_rows(
    kind: StepKind, params: supervisor.Params, rows: Sequence[Wire], context: StepContext
) -> StepResult:
    done = await _run_on_model(kind, params, rows, context)
    result = json.loads((context.scratch / "output" / supervisor.ROWS).read_bytes())
    return StepResult(rows=result, metrics=done.metrics)


async def _train(kind: StepKind, params: TrainParams, rows: Sequence[Wire], context: StepContext) -> StepResult:
    done = await _run_on_model(kind, params, rows, context)
    output, artifacts, serving = context.scratch / "output", context.artifacts, context.settings.serving
    curve = json.loads((output / supervisor.CURVE).read_bytes())
    if params.method is Method.FULL or params.adapter.use_dora:
        weights = output / supervisor.FULL
        digest = await asyncio.to_thread(publishing.publish_weights, weights, artifacts, serving)
        return StepResult(weights=digest, metrics=done.metrics, curve=curve)
    base = publishing.serving_base(trainer_settings(), Bases(), params.model.base)
    digest = await asyncio.to_thread(publishing.publish, output / supervisor.ADAPTER, artifacts, serving, base)
    return StepResult(adapter=digest, metrics=done.metrics, curve=curve)


async def _run_on_model(kind: StepKind, params: supervisor.Params, rows: Sequence[Wire], context: StepContext) -> Done:
    """What computes with a model needs the device."""
    ref, artifacts = params.model, context.artifacts
    adapter = await asyncio.to_thread(artifacts.folder, ref.adapter) if ref.adapter else None
    weights = await asyncio.to_thread(artifacts.folder, ref.weights) if ref.weights else None
    model = weights or await asyncio.to_thread(Bases().folder, ref)
    spec = supervisor.plan(kind, params, rows, model, adapter, context.scratch, trainer_settings())
    size = supervisor.bytes_to_write(params, model)
    context.artifacts.check_room(context.scratch, size)  # before the engine frees its device
    borrower = f"step {context.claim.step_id} attempt {context.claim.attempt}"
    async with borrowed(borrower, context.settings, trainer_settings(), context.waits_for):
        return await _run(spec, context, size)


async def _run(spec: Spec, context: StepContext, bytes_to_write: int = 0) -> Done:
    """Checkpoints need bytes_to_write on the disk, above its floor; a training that lacks them resumes from its last one."""
    artifacts = context.artifacts
    artifacts.check_room(context.scratch, bytes_to_write)
    log = context.settings.data / "logs" / f"trainer-{context.claim.step_id}.log"

    def on_progress(done: int, total: int, **metrics: float) -> None:
        artifacts.check_room(context.scratch, bytes_to_write)
        context.progress(done, total, **metrics)

    async with kept_elsewhere(context, spec.checkpoints):
        return await supervisor.run(spec, log, on_progress, trainer_settings().stop_within.total_seconds())


sft, dpo = (step_handler(kind)(partial(_train, kind)) for kind in (StepKind.SFT, StepKind.DPO))
search, score = (step_handler(kind)(partial(_write_rows, kind)) for kind in (StepKind.SEARCH, StepKind.SCORE))
HANDLERS = by_kind(sft, dpo, search, score, merge, gguf, push, probe)
