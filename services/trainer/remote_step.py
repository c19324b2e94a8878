"""`python -m services.trainer.remote_step RUN`: one training step on a machine of a cluster, started by a launcher.

The step's request, students and adapters come from the artifacts, checkpoints and the result go there. It ends when its run no longer has
the step, or when no worker has followed it for a while; a later run goes on from its checkpoints. RUN: JSON of services.trainer.runs.Run.
"""

import asyncio
import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from services.trainer import supervisor
from services.trainer.runs import Ended, Run, Runs
from services.trainer.settings import trainer_settings
from services.trainer.spec import Failed
from services.trainer.tasks import HANDLERS
from shared.artifacts.objects import ObjectsUnavailable
from shared.artifacts.opening import open_artifacts
from shared.contracts.deterministic import is_deterministic
from shared.contracts.errors import FatalError, MeteorError, TransientError, as_body
from shared.contracts.steps import StepKind, StepRequest, StepResult
from shared.platform.log import get_logger, set_up_logging
from shared.platform.settings import PlatformSettings, platform_settings
from shared.queue.step_task import Handler, StepContext

log = get_logger(__name__)
LOOK_S = 1.0
LOG_LINES = 60
T = TypeVar("T")


class Watch:
    """Tells progress, and finds out when the run has to end."""

    def __init__(self, runs: Runs, run: Run, context: StepContext):
        self.runs, self.run, self.context = runs, run, context
        self._told: object = None
        self._owner: object = None
        self._seen = time.monotonic()

    async def until_it_must_end(self) -> str:
        """Returns why."""
        while True:
            reason = await asyncio.to_thread(self.look)
            if reason:
                return reason
            await asyncio.sleep(LOOK_S)

    def look(self) -> str:
        try:
            owner = self.runs.owner()
            if owner is None or owner.run != self.run.id:
                return "the step was stopped, or another run has it"
            if owner != self._owner:
                self._owner, self._seen = owner, time.monotonic()
            if self.context.latest is not None and self.context.latest is not self._told:
                self.runs.report(self.run.id, self.context.latest)
                self._told = self.context.latest
        except ObjectsUnavailable as error:
            log.warning("progress cannot be stored", reason=error.message)
        if time.monotonic() - self._seen > self.run.abandoned_after_s:
            return f"no worker has followed it for {self.run.abandoned_after_s:.0f} s"
        return ""


async def work(run: Run, settings: PlatformSettings, handlers: Mapping[StepKind, Handler]) -> int:
    """The process's exit code: 0 with a result, 1 with an error, 2 for a run that had to end."""
    runs = Runs(settings, run.step_id)
    context = StepContext(run.claim, settings, open_artifacts(settings))
    watch = Watch(runs, run, context)
    if reason := await asyncio.to_thread(watch.look):
        log.info("the run does not begin", run=run.id, reason=reason)
        return 2
    task = asyncio.ensure_future(_run_and_store(run, runs, context, handlers))
    watching = asyncio.ensure_future(watch.until_it_must_end())
    told = asyncio.ensure_future(_sigterm())
    await asyncio.wait({task, watching, told}, return_when=asyncio.FIRST_COMPLETED)
    for other in (watching, told):
        other.cancel()
    if not task.done():
        log.info("the run ends", run=run.id, reason=watching.result() if watching.done() else "SIGTERM")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return 2
    ended = task.result()
    if ended.failed is None:
        shutil.rmtree(context.scratch, ignore_errors=True)
        return 0
    _show_log(settings.data / "logs" / f"trainer-{run.step_id}.log")
    log.error("the step failed", run=run.id, code=ended.failed.code, reason=ended.failed.message)
    return 1


async def _run_and_store(run: Run, runs: Runs, context: StepContext, handlers: Mapping[StepKind, Handler]) -> Ended:
    """Returns when the worker can read how the step ended."""
    ended = await _ended(run, context, handlers)
    await _stored(lambda: runs.end(run.id, ended), run)
    return ended


async def _stored(store: Callable[[], T], run: Run) -> T:
    """Repeats a write until the storage takes it. Raises ObjectsUnavailable when that takes longer than a run waits for its worker."""
    deadline = time.monotonic() + run.abandoned_after_s
    while True:
        try:
            return await asyncio.to_thread(store)
        except ObjectsUnavailable as error:
            if time.monotonic() > deadline:
                raise
            log.warning("the result cannot be stored yet", run=run.id, reason=error.message)
        await asyncio.sleep(LOOK_S)


async def _ended(run: Run, context: StepContext, handlers: Mapping[StepKind, Handler]) -> Ended:
    artifacts = context.artifacts
    try:
        with artifacts.kept():
            request = StepRequest.model_validate(await asyncio.to_thread(artifacts.get_json, run.input_hash))
            result: StepResult = await handlers[run.kind](request, context)
        stored = await _stored(lambda: artifacts.put_json(result.model_dump(mode="json")), run)
        return Ended(result=stored)
    except MeteorError as error:
        return Ended(failed=Failed.of(error))
    except Exception as error:
        log.exception("an unexpected error", run=run.id)
        body, family = as_body(error), FatalError if is_deterministic(error) else TransientError
        return Ended(failed=Failed.of(family(body.message, code=body.code)))


async def _sigterm() -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await told.wait()


def _show_log(path: Path) -> None:
    """The end of the training process's log, where the cluster's own log is read."""
    with contextlib.suppress(OSError):
        lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
        sys.stderr.write("\n".join([f"the end of {path}:", *lines, ""]))


def main() -> int:
    set_up_logging("trainer:remote")
    settings = platform_settings()
    if not settings.artifacts_url:
        raise SystemExit("METEOR_ARTIFACTS_URL is not set: a step on a cluster gets its rows and puts its result there")
    supervisor.sweep(settings.data / "scratch", trainer_settings().keep_scratch.total_seconds())
    return asyncio.run(work(Run.model_validate_json(sys.argv[1]), settings, HANDLERS))


if __name__ == "__main__":
    sys.exit(main())
