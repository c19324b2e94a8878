"""From a message to a finished row: claim, run the handler under a renewed lease, store the result, tell the orchestrator.

A service gives a table of handlers, one per step kind: `async def handler(request, context) -> StepResult`. Handlers know
no queue and no database; they report progress through the context and are cancelled (asyncio) when the job is.
"""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import redis
from celery import signals

from shared.artifacts import Artifacts
from shared.contracts.errors import Cancelled, FatalError, TransientError, UserError, as_body
from shared.contracts.steps import Progress, Queue, StepKind, StepRequest, StepResult
from shared.jobs.schema import Stores, open_stores
from shared.jobs.step_store import Claim
from shared.jobs.tables import DEFAULT_PROJECT
from shared.platform.log import get_logger, set_up_logging
from shared.platform.settings import PlatformSettings, platform_settings
from shared.queue.app import STEP_TASK, celery_app
from shared.queue.done import announce

log = get_logger(__name__)
LOOK_S = 1.0  # how often a running step asks whether its job was cancelled


class StepContext:
    """What a handler may know and do beside its request."""

    def __init__(self, claim: Claim, settings: PlatformSettings, artifacts: Artifacts):
        self.claim = claim
        self.settings = settings
        self.artifacts = artifacts
        self.latest: Progress | None = None
        self._started = time.monotonic()

    @property
    def phase(self) -> str:
        """The part of the step's key before its first slash."""
        return self.claim.key.partition("/")[0]

    @property
    def scratch(self) -> Path:
        """A folder for this step alone, kept between attempts (checkpoints) and removed when the step is done."""
        path = self.settings.data / "scratch" / self.claim.step_id
        path.mkdir(parents=True, exist_ok=True)
        return path

    def progress(self, done: int, total: int, **metrics: float) -> None:
        """Note progress; it reaches the row with the next renewal of the lease."""
        elapsed = time.monotonic() - self._started
        eta = elapsed / done * (total - done) if done else None
        self.latest = Progress(done=done, total=total, metrics=metrics, eta_seconds=eta)


Handler = Callable[[StepRequest, StepContext], Awaitable[StepResult]]


class StepRunner:
    """Runs claimed steps in one worker process."""

    def __init__(self, service: str, handlers: Mapping[StepKind, Handler]):
        self.handlers = handlers
        self.settings = platform_settings()
        self.worker = f"{service}@{socket.gethostname()}:{os.getpid()}"
        self.artifacts = Artifacts(self.settings.artifacts)
        self._stores: Stores | None = None
        self._redis: redis.Redis | None = None

    @property
    def stores(self) -> Stores:
        if self._stores is None:  # opened after the fork: connections must not cross it
            self._stores = open_stores(self.settings.database)
        return self._stores

    def run(self, step_id: str) -> None:
        """One delivery of one message. Returns quietly when the step is taken, done or cancelled."""
        lease = self.settings.lease.total_seconds()
        claim = self.stores.steps.claim(step_id, self.worker, lease)
        if claim is None:
            log.debug("nothing to do", step_id=step_id)
            return
        log.info("step begins", step_key=claim.key, job=claim.job_id, attempt=claim.attempt)
        asyncio.run(self._attempt(claim))
        self._announce(step_id)

    async def _attempt(self, claim: Claim) -> None:
        steps = self.stores.steps
        context = StepContext(claim, self.settings, self.artifacts)
        try:
            request = StepRequest.model_validate(self.artifacts.get_json(claim.input_hash))
            result = await self._under_lease(self.handlers[claim.kind](request, context), context)
            reference = self.artifacts.put_json(result.model_dump(mode="json"))
            if not steps.finish(claim, reference, result.metrics):
                log.warning("result came too late and is left aside", step_key=claim.key, attempt=claim.attempt)
        except Cancelled:
            log.info("step stopped", step_key=claim.key)
        except Exception as error:
            final = isinstance(error, UserError | FatalError)
            log.error(
                "step failed",
                step_key=claim.key,
                attempt=claim.attempt,
                error=repr(error),
                exc_info=not isinstance(error, UserError | TransientError),
            )
            steps.fail(claim, as_body(error), again=not final, max_attempts=self.settings.max_attempts)

    async def _under_lease(self, work: Awaitable[StepResult], context: StepContext) -> StepResult:
        """Run the handler; cancel it when its job stops or its lease is lost. Raises Cancelled then."""
        task = asyncio.ensure_future(work)
        keeper = asyncio.ensure_future(self._keep(context))
        try:
            await asyncio.wait({task, keeper}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            keeper.result()
            raise Cancelled("the job was cancelled or the lease lost")
        finally:
            for pending in (task, keeper):
                pending.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await pending

    async def _keep(self, context: StepContext) -> None:
        """Renew the lease; returns when the step must stop."""
        steps = self.stores.steps
        lease, renew = self.settings.lease.total_seconds(), self.settings.renew.total_seconds()
        next_renewal = 0.0
        while not await asyncio.to_thread(steps.job_is_stopping, context.claim):
            if time.monotonic() >= next_renewal:
                if not await asyncio.to_thread(steps.renew, context.claim, lease, context.latest):
                    return
                next_renewal = time.monotonic() + renew
            await asyncio.sleep(min(LOOK_S, renew))

    def _announce(self, step_id: str) -> None:
        if self._redis is None:
            self._redis = redis.Redis.from_url(self.settings.redis_url)
        announce(self._redis, step_id)


def serve_queue(service: str, queue: Queue, handlers: Mapping[StepKind, Handler], slots: int) -> None:
    """Run a Celery worker on one queue until SIGTERM. slots: steps at once, each in a process of its own."""
    set_up_logging(f"{service}:{queue}")
    app = celery_app()
    runner = StepRunner(service, handlers)
    open_stores(runner.settings.database)

    @app.task(name=STEP_TASK)
    def step(step_id: str) -> None:
        runner.run(step_id)

    _beat_while_alive(runner, service, queue, slots)
    app.worker_main(
        [
            "worker",
            "--queues",
            queue.value,
            "--concurrency",
            str(slots),
            "--pool",
            "prefork",
            "--loglevel",
            "WARNING",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--hostname",
            f"{service}-{queue}-{os.getpid()}@%h",
        ]
    )


def _beat_while_alive(runner: StepRunner, service: str, queue: Queue, slots: int) -> None:
    """A row in `workers` each few seconds tells who consumes the queue; its age tells a lost worker."""
    stop = threading.Event()

    def beat() -> None:
        last = False
        while not last:
            last = stop.is_set()
            try:
                runner.stores.jobs.heartbeat(runner.worker, DEFAULT_PROJECT, service, queue, slots, stopping=last)
            except Exception as error:  # the database may come back; the worker itself goes on
                log.warning("heartbeat not written", error=str(error))
            stop.wait(runner.settings.renew.total_seconds())

    @signals.worker_ready.connect(weak=False)
    def _start(**_):
        threading.Thread(target=beat, name="heartbeat", daemon=True).start()

    @signals.worker_shutting_down.connect(weak=False)
    def _stop(**_):
        stop.set()
