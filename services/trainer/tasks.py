"""The `train` queue: rows in; an adapter or a whole model (SFT, preference) or rows (search, score) out."""

import asyncio
import json

from services.trainer import service
from services.trainer.settings import trainer_settings
from services.trainer.spec import Done
from shared.bases import Bases
from shared.contracts.rows import Asked, Example, Pair
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
    return await _train(request, context, Pair)


async def search(request: StepRequest, context: StepContext) -> StepResult:
    return await _rows(request, context, SearchParams.model_validate(request.params), Asked)


async def score(request: StepRequest, context: StepContext) -> StepResult:
    return await _rows(request, context, ScoreParams.model_validate(request.params), Example)


async def _rows(request: StepRequest, context: StepContext, params: service.Params, row: type[Wire]) -> StepResult:
    done = await _run(request, context, params, row)
    rows = json.loads((context.scratch / "output" / service.ROWS).read_bytes())
    return StepResult(rows=rows, metrics=done.metrics)


async def _train(request: StepRequest, context: StepContext, row: type[Wire]) -> StepResult:
    params = TrainParams.model_validate(request.params)
    done = await _run(request, context, params, row)
    output, artifacts, serving = context.scratch / "output", context.artifacts, context.settings.serving
    if params.method is Method.FULL:
        digest = await asyncio.to_thread(service.publish_weights, output / service.FULL, artifacts, serving)
        result = StepResult(weights=digest, metrics=done.metrics)
    else:
        base = service.serving_base(trainer_settings(), Bases(), params.model.base)
        digest = await asyncio.to_thread(service.publish, output / service.ADAPTER, artifacts, serving, base)
        result = StepResult(adapter=digest, metrics=done.metrics)
    return result


async def _run(request: StepRequest, context: StepContext, params: service.Params, row: type[Wire]) -> Done:
    rows = [row.model_validate(item).model_dump(mode="json") for item in request.rows]
    settings = trainer_settings()
    ref, artifacts = params.model, context.artifacts
    adapter = await asyncio.to_thread(artifacts.folder, ref.adapter) if ref.adapter else None
    model = await asyncio.to_thread(artifacts.folder, ref.weights) if ref.weights else None
    model = model or await asyncio.to_thread(Bases().folder, ref)
    room = service.checkpoint_bytes(params, model)
    artifacts.check_room(context.scratch, room)
    spec = service.plan(request.kind, params, rows, model, adapter, context.scratch, settings)
    log = context.settings.data / "logs" / f"trainer-{context.claim.step_id}.log"

    def progress(done: int, total: int, **metrics: float) -> None:
        """Checkpoints take room; a training that waits for more goes on from its last one."""
        artifacts.check_room(context.scratch, room)
        context.progress(done, total, **metrics)

    return await service.run(spec, log, progress, settings.stop_within.total_seconds())


HANDLERS = {StepKind.SFT: sft, StepKind.SEARCH: search, StepKind.PREFER: prefer, StepKind.SCORE: score}
