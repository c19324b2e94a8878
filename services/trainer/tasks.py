"""The `train` queue: rows in; an adapter or a whole model (SFT, preference) or rows (search, score) out; and what exports
need of a device or of model libraries."""

import asyncio
import json
import os
import shutil
from pathlib import Path

from services.trainer import supervisor
from services.trainer.settings import trainer_settings
from services.trainer.spec import Done, Spec
from shared.artifacts.archives import files_of
from shared.artifacts.bases import Bases
from shared.contracts.errors import FatalError
from shared.contracts.export_steps import GgufParams, MergeParams, PushParams
from shared.contracts.exports import ExportIndex
from shared.contracts.rows import Example, PreferencePair, StudentPrompt
from shared.contracts.steps import (
    Method,
    ScoreParams,
    SearchParams,
    StepKind,
    StepRequest,
    StepResult,
    TrainParams,
    Wire,
)
from shared.queue.step_task import StepContext


async def sft(request: StepRequest, context: StepContext) -> StepResult:
    return await _train(request, context, Example)


async def prefer(request: StepRequest, context: StepContext) -> StepResult:
    return await _train(request, context, PreferencePair)


async def search(request: StepRequest, context: StepContext) -> StepResult:
    return await _rows(request, context, SearchParams.model_validate(request.params), StudentPrompt)


async def score(request: StepRequest, context: StepContext) -> StepResult:
    return await _rows(request, context, ScoreParams.model_validate(request.params), Example)


async def merge(request: StepRequest, context: StepContext) -> StepResult:
    """The merged model's folder goes to the artifacts alone: no engine serves it, it serves base and adapter."""
    params = MergeParams.model_validate(request.params)
    found = await _rows(request, context, params, StudentPrompt)
    folder = params.model.weights  # what was trained whole needs no merging
    if folder is None and params.keep:
        folder = await asyncio.to_thread(context.artifacts.put_folder, context.scratch / "output" / supervisor.FULL)
    return found.model_copy(update={"folder": folder if params.keep else None})


async def gguf(request: StepRequest, context: StepContext) -> StepResult:
    params, settings = GgufParams.model_validate(request.params), trainer_settings()
    if settings.gguf_converter is None or not settings.gguf_converter.is_file():
        raise FatalError("METEOR_GGUF_CONVERTER of the trainer names no file", code="gguf_unavailable")
    folder = await asyncio.to_thread(context.artifacts.folder, params.folder)
    what = {"converter": str(settings.gguf_converter.resolve())}
    done = await _run_spec(supervisor.on_folder(request.kind, what, folder, context.scratch, settings), context)
    digest = await asyncio.to_thread(context.artifacts.put_folder, context.scratch / "output" / "folder")
    return StepResult(folder=digest, metrics=done.metrics)


async def push(request: StepRequest, context: StepContext) -> StepResult:
    params = PushParams.model_validate(request.params)
    if not os.environ.get(supervisor.HUB_TOKEN):
        raise FatalError("the trainer has no HF_TOKEN, so nothing can be pushed", code="no_hub_token")
    folder = await asyncio.to_thread(_laid_out, params.export, context)
    spec = supervisor.on_folder(request.kind, request.params, folder, context.scratch, trainer_settings())
    return StepResult(metrics=(await _run_spec(spec, context)).metrics)


def _laid_out(export: str, context: StepContext) -> Path:
    """An export's files as they are to lie in a repository."""
    folder = context.scratch / "push"
    shutil.rmtree(folder, ignore_errors=True)
    context.artifacts.check_room(context.scratch)
    for member in files_of(ExportIndex.model_validate(context.artifacts.get_json(export)), context.artifacts):
        target = folder / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(member.content, bytes):
            target.write_bytes(member.content)
        else:
            supervisor.laid(member.content, target)
    return folder


async def _rows(request: StepRequest, context: StepContext, params: supervisor.Params, row: type[Wire]) -> StepResult:
    done = await _run(request, context, params, row)
    rows = json.loads((context.scratch / "output" / supervisor.ROWS).read_bytes())
    return StepResult(rows=rows, metrics=done.metrics)


async def _train(request: StepRequest, context: StepContext, row: type[Wire]) -> StepResult:
    params = TrainParams.model_validate(request.params)
    done = await _run(request, context, params, row)
    output, artifacts, serving = context.scratch / "output", context.artifacts, context.settings.serving
    curve = json.loads((output / supervisor.CURVE).read_bytes())
    if params.method is Method.FULL:
        digest = await asyncio.to_thread(supervisor.publish_weights, output / supervisor.FULL, artifacts, serving)
        result = StepResult(weights=digest, metrics=done.metrics, curve=curve)
    else:
        base = supervisor.serving_base(trainer_settings(), Bases(), params.model.base)
        digest = await asyncio.to_thread(supervisor.publish, output / supervisor.ADAPTER, artifacts, serving, base)
        result = StepResult(adapter=digest, metrics=done.metrics, curve=curve)
    return result


async def _run(request: StepRequest, context: StepContext, params: supervisor.Params, row: type[Wire]) -> Done:
    rows = [row.model_validate(item).model_dump(mode="json") for item in request.rows]
    settings = trainer_settings()
    ref, artifacts = params.model, context.artifacts
    adapter = await asyncio.to_thread(artifacts.folder, ref.adapter) if ref.adapter else None
    model = await asyncio.to_thread(artifacts.folder, ref.weights) if ref.weights else None
    model = model or await asyncio.to_thread(Bases().folder, ref)
    room = supervisor.bytes_to_write(params, model)
    spec = supervisor.plan(request.kind, params, rows, model, adapter, context.scratch, settings)
    return await _run_spec(spec, context, room)


async def _run_spec(spec: Spec, context: StepContext, room: int = 0) -> Done:
    """room: bytes that its files may take, beside those that always stay free."""
    artifacts, settings = context.artifacts, trainer_settings()
    artifacts.check_room(context.scratch, room)
    log = context.settings.data / "logs" / f"trainer-{context.claim.step_id}.log"

    def progress(done: int, total: int, **metrics: float) -> None:
        """Checkpoints take room; a training that waits for more goes on from its last one."""
        artifacts.check_room(context.scratch, room)
        context.progress(done, total, **metrics)

    return await supervisor.run(spec, log, progress, settings.stop_within.total_seconds())


HANDLERS = {
    StepKind.SFT: sft,
    StepKind.SEARCH: search,
    StepKind.DPO: prefer,
    StepKind.SCORE: score,
    StepKind.MERGE: merge,
    StepKind.GGUF: gguf,
    StepKind.PUSH: push,
}
