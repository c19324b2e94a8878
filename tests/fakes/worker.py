"""A worker with handlers that do what their request's domain says, for tests of the queue: `python -m tests.fakes.worker [slots]`.

Each call leaves a line in METEOR_DATA/calls, so that a test can count how often a handler ran.
"""

import asyncio
import os
import subprocess
import sys

from shared.platform.loading import loading_a_service

with loading_a_service():  # as the real ones
    from shared.contracts.errors import BatchPending, TransientError, UserError
    from shared.contracts.steps import Queue, StepKind, StepRequest, StepResult
    from shared.platform import process_guard
    from shared.queue.step_task import StepContext, serve_queue


async def teach(request: StepRequest, context: StepContext) -> StepResult:
    """params["do"]: echo, refuse (UserError), stumble (TransientError once), rest (BatchPending twice), break (KeyError), cancel, sleep, child."""
    do = request.params["do"]
    _note(f"{do} begins {context.claim.attempt} {os.getpid()}")
    try:
        return await _DEEDS[do](request, context)
    except asyncio.CancelledError:
        _note(f"{do} cancelled {context.claim.attempt}{', goes on' if context.goes_on() else ''}")
        raise


async def _echo(request: StepRequest, context: StepContext) -> StepResult:
    context.progress(len(request.rows), len(request.rows))
    return StepResult(rows=request.rows, metrics={"phase": context.phase, "loss": float("nan")})


async def _refuse(request: StepRequest, context: StepContext) -> StepResult:
    raise UserError("the rows are wrong", param="rows")


async def _stumble(request: StepRequest, context: StepContext) -> StepResult:
    marker = context.scratch / "stumbled"
    if marker.exists():
        return StepResult(metrics={"attempt": context.claim.attempt})
    marker.touch()
    raise TransientError("the engine is away")


async def _rest(request: StepRequest, context: StepContext) -> StepResult:
    """Its batch comes at the third look."""
    context.progress(len(request.rows), len(request.rows) + 1)
    if context.claim.attempt < 3:
        raise BatchPending("a batch is computed", again_in_s=0.5)
    return StepResult(metrics={"attempt": context.claim.attempt})


async def _break(request: StepRequest, context: StepContext) -> StepResult:
    raise KeyError("surprise")


async def _cancel(request: StepRequest, context: StepContext) -> StepResult:
    raise asyncio.CancelledError


async def _sleep(request: StepRequest, context: StepContext) -> StepResult:
    """Long only on its first attempt, so that whoever takes it over finishes."""
    if context.claim.attempt == 1:
        context.progress(1, 100, loss=0.5)
        await asyncio.sleep(request.params.get("seconds", 600))
    return StepResult(metrics={"attempt": context.claim.attempt})


async def _child(request: StepRequest, context: StepContext) -> StepResult:
    """A guarded grandchild that outlives a careless parent."""
    child = await asyncio.create_subprocess_exec(*process_guard.command(["sleep", "600"]), stdin=subprocess.PIPE)
    _note(f"child runs {child.pid}")
    try:
        await asyncio.sleep(600)
    finally:
        child.terminate()
        await child.wait()
    return StepResult()


_DEEDS = {
    "echo": _echo,
    "refuse": _refuse,
    "stumble": _stumble,
    "rest": _rest,
    "break": _break,
    "cancel": _cancel,
    "sleep": _sleep,
    "child": _child,
}


def _note(line: str) -> None:
    with open(os.path.join(os.environ["METEOR_DATA"], "calls"), "a", encoding="utf-8") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    serve_queue("fake", Queue.STRONG, {StepKind.TEACH: teach}, slots=int(sys.argv[1]) if len(sys.argv) > 1 else 1)
