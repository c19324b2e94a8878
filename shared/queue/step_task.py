"""From a message to a finished row: claim, run the handler under a renewed lease, store the result, notify the orchestrator.

A service passes one handler per step kind (shared.queue.step_handler). Handlers know no queue and no database; they report
progress through the context and are cancelled (asyncio) when the job is cancelled or paused, or the worker shuts down.
Each step has its own event loop: a handler opens and closes its clients itself, and calls that block for seconds go
into `asyncio.to_thread`, because the same loop renews the lease.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import redis
import stamina
from pydantic import ValidationError

from shared.artifacts.opening import open_artifacts
from shared.artifacts.store import Artifacts
from shared.contracts.deterministic import is_deterministic
from shared.contracts.errors import (
    BudgetExceeded,
    Cancelled,
    DiskLow,
    FatalError,
    Postponed,
    TransientError,
    UserError,
    as_body,
)
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Progress, Queue, StepKind, StepRequest, StepResult
from shared.db.engine import UNAVAILABLE, engine_for
from shared.jobs.heartbeat import Heartbeat
from shared.jobs.schema import Stores, open_stores, stores_on
from shared.jobs.states import RESTING_JOBS, STOPPING_JOBS, StepState
from shared.jobs.step_store import Claim
from shared.platform import tracing
from shared.platform.http_client import load_http_client
from shared.platform.log import get_logger, set_up_logging
from shared.platform.settings import PlatformSettings, platform_settings
from shared.queue.app import STEP_TASK, celery_app
from shared.queue.done import announce
from shared.queue.lifecycle import (
    ShutdownPipe,
    beat_while_alive,
    clear_scratch_while_alive,
    flush_traces_at_end,
    share_memory,
)

log = get_logger(__name__)
DISK_RETRY_S = 15.0  # a step that lacks disk space is tried again after this
POLL_S = 1.0  # between two checks of the job's status
T = TypeVar("T")


class Released(Exception):
    """The step returns to the queue: this worker shuts down, or the job pauses."""


class WorkerEnds(Released):
    """This worker shuts down: another one takes the step at once."""


class LeaseLost(Cancelled):
    """Another attempt runs the step, or will; it can use the calls that this attempt has sent."""


class StepContext:
    """What a handler may use beside its request."""

    def __init__(self, claim: Claim, settings: PlatformSettings, artifacts: Artifacts):
        self.claim = claim
        self.settings = settings
        self.artifacts = artifacts
        self.latest: Progress | None = None
        self.runs_again = False
        self.worker_ends = False
        self.clear_more: Callable[[], object] = lambda: None  # what the step left elsewhere
        self._scratch = settings.data / "scratch" / claim.step_id
        self._started = time.monotonic()

    def goes_on(self) -> bool:
        """For a cancelled handler: the step will run again, and can use the calls that this attempt has sent."""
        return self.runs_again

    def moves_on(self) -> bool:
        """For a cancelled handler: only its worker ends. What runs on another machine may go on; the next worker finds it there."""
        return self.worker_ends

    @property
    def phase(self) -> str:
        return StepKey.parse(self.claim.key).phase

    @property
    def scratch(self) -> Path:
        """A folder of this step, kept between attempts (checkpoints) and removed when the step has ended."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch

    def clear_scratch(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)
        try:
            self.clear_more()
        except TransientError as error:  # the collector removes it
            log.warning("the step leaves something behind", step_key=self.claim.key, reason=error.message)

    def progress(self, done: int, total: int, **metrics: float) -> None:
        """Record progress; it is written to the row with the next renewal of the lease."""
        elapsed = time.monotonic() - self._started
        eta = elapsed / done * (total - done) if done else None
        self.latest = Progress(done=done, total=total, metrics=metrics, eta_seconds=eta)

    def waiting_for(self, what: str) -> Progress:
        """Progress of a step that waits for something external, with the counts so far."""
        done, total = (self.latest.done, self.latest.total) if self.latest else (0, 0)
        return Progress(done=done, total=total, waits_for=what, unavailable=True)

    def waits_for(self, what: str) -> None:
        """Record why the step has not begun; the next progress replaces it."""
        self.latest = Progress(waits_for=what)


Handler = Callable[[StepRequest, StepContext], Awaitable[StepResult]]


class StepRunner:
    """Runs claimed steps in one worker process."""

    def __init__(self, service: str, handlers: Mapping[StepKind, Handler]):
        self.handlers = handlers
        self.settings = platform_settings()
        self.worker = f"{service}@{socket.gethostname()}:{os.getpid()}"
        self.artifacts = open_artifacts(self.settings)
        self.shutdown = ShutdownPipe()
        self._redis: redis.Redis | None = None

    @property
    def stores(self) -> Stores:
        return stores_on(self.settings.database)

    def run(self, step_id: str) -> None:
        """Handle one delivery of a message. Does nothing when the step is taken, done or cancelled."""
        lease = self.settings.lease.total_seconds()
        claim = self.stores.steps.claim(step_id, self.worker, lease)
        if claim is None:
            log.debug("nothing to do", step_id=step_id)
            return
        log.info("step begins", step_key=claim.key, job=claim.job_id, attempt=claim.attempt)
        asyncio.run(self._attempt(StepContext(claim, self.settings, self.artifacts)))
        self._announce(step_id)

    def _span(self, claim: Claim) -> Any:
        """The attempt's span, below its job's."""
        if not tracing.is_on():
            return tracing.NO_SPAN
        job = self.stores.jobs.get(claim.job_id)
        return tracing.span(
            f"step {claim.kind}",
            "consumer",
            tracing.job_context(claim.job_id, job.traceparent if job else None),
            meteor__job__id=claim.job_id,
            meteor__step__id=claim.step_id,
            meteor__step__key=claim.key,
            meteor__step__attempt=claim.attempt,
        )

    async def _attempt(self, context: StepContext) -> None:
        steps, claim = self.stores.steps, context.claim
        try:
            with self.artifacts.kept():
                result = await self._under_lease(self._work(context), context)
            reference = self.artifacts.put_json(result.model_dump(mode="json"))
            if self._persist(lambda: steps.finish(claim, reference, result.metrics)):
                context.clear_scratch()
            else:
                log.warning("result discarded: another attempt has the step", step_key=claim.key, attempt=claim.attempt)
        except Cancelled:
            log.info("step stopped", step_key=claim.key)
            if self._persist(lambda: steps.ended(claim)):
                context.clear_scratch()
        except Released as reason:
            log.info(f"step released: {reason}", step_key=claim.key)
            self._persist(lambda: steps.release(claim))
        except DiskLow as error:
            log.warning("step waits for disk space", step_key=claim.key, reason=error.message)
            waiting = Progress(waits_for=f"room on the disk: {error.message}")
            self._persist(lambda: steps.postpone(claim, DISK_RETRY_S, waiting))
        except Postponed as error:
            log.info("step rests", step_key=claim.key, reason=error.message)
            waiting, pause_s = context.waiting_for(error.message), error.again_in_s
            self._persist(lambda: steps.postpone(claim, pause_s, waiting))
        except BudgetExceeded as error:
            self._over_budget(context, error)
        except Exception as error:
            self._failed(context, error)

    def _over_budget(self, context: StepContext, error: BudgetExceeded) -> None:
        """The job pauses and this step waits for a larger budget, or the step and its job fail, as the budget is set."""
        claim = context.claim
        if self._persist(lambda: self.stores.jobs.pause_over_budget(claim.job_id, error.message)):
            log.info("step released: the budget does not allow its next call", step_key=claim.key)
            self._persist(lambda: self.stores.steps.release(claim))
        else:
            self._failed(context, error)

    def _failed(self, context: StepContext, error: Exception) -> None:
        claim, again = context.claim, not (isinstance(error, UserError | FatalError) or is_deterministic(error))
        log.error(
            "step failed",
            step_key=claim.key,
            attempt=claim.attempt,
            error=repr(error),
            exc_info=not isinstance(error, UserError | TransientError),
        )
        body, limit = as_body(error), self.settings.max_attempts
        if self._persist(lambda: self.stores.steps.fail(claim, body, again, limit)) == StepState.FAILED:
            context.clear_scratch()

    async def _work(self, context: StepContext) -> StepResult:
        claim = context.claim
        handler = self.handlers.get(claim.kind)
        if handler is None:
            raise FatalError(f"this worker has no handler for {claim.kind}", code="unknown_kind")
        try:
            request = StepRequest.model_validate(self.artifacts.get_json(claim.input_hash))
        except ValidationError as error:
            raise FatalError(f"the step's stored request is unreadable: {error}", code="bad_request") from error
        self.artifacts.check_room()  # the result needs disk space
        with self._span(claim):
            return await handler(request, context)

    async def _under_lease(self, work: Awaitable[StepResult], context: StepContext) -> StepResult:
        """Run the handler. Raises Cancelled when its job is cancelled or its lease is lost, Released when the job pauses
        or the worker shuts down."""
        task = asyncio.ensure_future(work)
        renewal = asyncio.ensure_future(self._renew(context))
        try:
            with self.shutdown.noticed() as shutdown:
                await asyncio.wait({task, renewal, shutdown}, return_when=asyncio.FIRST_COMPLETED)
                if task.cancelled():  # by itself: no stop was requested yet
                    raise TransientError("the handler cancelled itself", code="handler_cancelled")
                if task.done():
                    return task.result()
                if shutdown.done():
                    raise WorkerEnds("the worker shuts down")
            raise renewal.result()
        except (Released, LeaseLost) as reason:
            context.runs_again = True  # before the handler is cancelled, which reads it
            context.worker_ends = isinstance(reason, WorkerEnds)
            raise
        finally:
            for pending in (task, renewal):
                pending.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await pending

    async def _renew(self, context: StepContext) -> Cancelled | Released:
        """Renew the lease; returns why the step must stop. The database may be unavailable, or silent, until the lease expires."""
        steps, claim = self.stores.steps, context.claim
        lease, renew = self.settings.lease.total_seconds(), self.settings.renew.total_seconds()
        renewed = time.monotonic()

        async def asked(question: Callable[..., T], *about: Any) -> T:
            """Of a database that may never answer, since its host or this one is cut off."""
            async with asyncio.timeout(renewed + lease - time.monotonic()):
                return await asyncio.to_thread(question, *about)

        while time.monotonic() < renewed + lease:
            await asyncio.sleep(min(POLL_S, renew))
            began = time.monotonic()
            try:
                status = await asked(steps.job_status, claim)
                if status in STOPPING_JOBS:
                    return Cancelled("the job was cancelled")
                if status in RESTING_JOBS:
                    return Released("the job pauses")
                if began >= renewed + renew:
                    if not await asked(steps.renew, claim, lease, context.latest):
                        break
                    renewed = began
            except (*UNAVAILABLE, TimeoutError) as error:
                log.warning("lease not renewed", step_key=claim.key, error=str(error) or "no answer")
        return LeaseLost("the lease was lost")

    def _persist(self, write: Callable[[], T]) -> T:
        """Write how an attempt ended; retries for as long as a lease when the database is unavailable."""
        timeout_s = self.settings.lease.total_seconds()
        for attempt in stamina.retry_context(on=UNAVAILABLE, attempts=None, timeout=timeout_s):
            with attempt:
                return write()
        raise AssertionError("stamina raises the last error itself")

    def _announce(self, step_id: str) -> None:
        if self._redis is None:
            self._redis = redis.Redis.from_url(self.settings.redis_url, socket_timeout=5, socket_connect_timeout=5)
        announce(self._redis, step_id)


def serve_queue(service: str, queue: Queue, handlers: Mapping[StepKind, Handler], slots: int) -> None:
    """Run a Celery worker on one queue until SIGTERM. slots: steps at once, each in a process of its own.

    SIGTERM: running handlers are cancelled and their steps released, so that another worker takes them at once.
    """
    set_up_logging(f"{service}:{queue}")
    app = celery_app()
    runner = StepRunner(service, handlers)
    database = runner.settings.database
    open_stores(database)
    engine_for(database).dispose()  # no connection crosses the fork of the pool processes

    @app.task(name=STEP_TASK)
    def step(step_id: str) -> None:
        runner.run(step_id)

    load_http_client()
    share_memory()
    flush_traces_at_end()
    heartbeat = Heartbeat(lambda: stores_on(database), runner.worker, service, queue, slots)
    beat_while_alive(runner.settings, heartbeat)
    clear_scratch_while_alive(runner.settings)
    # Celery's command line would load prompt_toolkit and all its subcommands into every worker
    worker = app.Worker(
        hostname=f"{service}-{queue}-{os.getpid()}@{socket.gethostname()}",
        queues=[queue.value],
        concurrency=slots,
        pool_cls="prefork",
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    raise SystemExit(worker.exitcode)
