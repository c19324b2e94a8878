"""The step runner: row, message, wait. The database decides; messages and hints only make it quick."""

import asyncio
import contextlib
import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from services.orchestrator.runtime.fair_limit import WORKERS_AGE_S, FairLimit
from shared.artifacts.store import ArtifactMissing, Artifacts
from shared.contracts.errors import DiskLow, ErrorBody, MeteorError, TransientError
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Progress, Queue, StepRequest, StepResult, canonical
from shared.jobs.records import JobRecord, StepRecord
from shared.jobs.schema import Stores
from shared.jobs.states import FINAL_STEPS, StepState
from shared.platform.log import get_logger
from shared.platform.settings import PlatformSettings
from shared.queue.app import send
from shared.queue.done import ended_steps

log = get_logger(__name__)
POLL_S = 1.0
DISK_RETRY_S = 5.0  # between two checks whether the disk has space again

OnProgress = Callable[[Progress], None]
T = TypeVar("T")


class StepFailed(MeteorError):
    """A step failed for good; carries the step's own error, with the step's key in front."""

    def __init__(self, key: str, error: ErrorBody):
        super().__init__(f"step {key}: {error.message}", param=error.param, code=error.code)
        self.key = key


class StepClient:
    """One per orchestrator process; serves all its jobs with one poller."""

    def __init__(self, stores: Stores, artifacts: Artifacts, settings: PlatformSettings):
        self.stores = stores
        self.artifacts = artifacts
        self.settings = settings
        self._waiting: dict[str, tuple[asyncio.Future[StepRecord], OnProgress]] = {}
        self._hints: asyncio.Queue[str] = asyncio.Queue()
        self._early: deque[str] = deque(maxlen=256)  # ended before we waited for them
        self._slots: dict[Queue, int] = {}
        self._slots_at = 0.0

    async def run(
        self, job: JobRecord, key: StepKey, request: StepRequest, limit: FairLimit, on_progress: OnProgress
    ) -> StepResult:
        """The result of this step: kept from before, taken over from another job, or worked out now.

        Raises StepFailed when its attempts are used up, StepMismatch when the key was run with other inputs.
        """
        async with limit.place(request.kind.queue) as place:

            def on_news(progress: Progress) -> None:
                if progress.unavailable:
                    place.leave()
                on_progress(progress)

            on_progress(Progress())  # it has its place in the queue
            row = await when_disk_has_space(lambda: self._begin(job, key, request), on_progress)
            if row.state not in FINAL_STEPS:
                row = await self._wait(row, on_news)
        if row.state != StepState.SUCCEEDED:
            raise StepFailed(
                str(key),
                row.error or ErrorBody(message=row.state, type="server_error", code=row.state),
            )
        return StepResult.model_validate(await asyncio.to_thread(self.artifacts.get_json, row.result_ref))

    def _begin(self, job: JobRecord, key: StepKey, request: StepRequest) -> StepRecord:
        """Create the row, store the request and send the message in one thread: each hop between threads costs more."""
        body = canonical(request.model_dump(mode="json"))
        step = self.stores.steps.create(job, key, request.kind, hashlib.sha256(body).hexdigest(), self._still_there)
        if step.state in FINAL_STEPS:
            return step
        self.artifacts.put(body)
        if step.state == StepState.QUEUED and step.sent_at in (None, step.created_at):
            # new, or left by an orchestrator that may have died before it sent the message; a second one does no harm
            try:
                send(step.id, request.kind.queue)
            except TransientError as error:
                log.warning("message not sent yet", step_id=step.id, error=str(error))
                self.stores.steps.note_sent(step.id, sent=False)
        return step

    def _still_there(self, finished: StepRecord) -> bool:
        """Somebody may have removed an artifact, or a trained model's copy for the engine, since another job made it."""
        try:
            result = StepResult.model_validate(self.artifacts.get_json(finished.result_ref))
            trained = result.trained
            for made in filter(None, (trained, result.folder)):
                self.artifacts.check_folder(made)
        except ArtifactMissing as error:
            log.warning("a finished step is done again", step_key=finished.key, reason=error.message)
            return False
        fetched = bool(self.settings.artifacts_url)  # by the engine, when it is asked for the version
        return trained is None or fetched or (self.settings.serving / trained).is_dir()

    async def _wait(self, row: StepRecord, on_progress: OnProgress) -> StepRecord:
        future: asyncio.Future[StepRecord] = asyncio.get_running_loop().create_future()
        self._waiting[row.id] = waiting = (future, on_progress)
        if row.id in self._early:
            self._hints.put_nowait(row.id)
        try:
            return await future
        finally:
            if (
                self._waiting.get(row.id) is waiting
            ):  # else the job was lost and taken up again here: another run waits now
                del self._waiting[row.id]

    def resend(self, step_id: str, queue: Queue) -> None:
        """A message for a step that may have none. With the broker away the row stays as it is, for the next try."""
        try:
            send(step_id, queue)
            self.stores.steps.note_sent(step_id)
        except TransientError as error:
            log.warning("message not sent yet", step_id=step_id, queue=queue, error=str(error))

    async def listen(self) -> None:
        """Feed the poller with hints, forever."""
        async for step_id in ended_steps():
            self._hints.put_nowait(step_id)

    async def poll(self) -> None:
        """Wake the steps that have ended, forever: at once on a hint, else within POLL_S."""
        looked = 0.0
        while True:
            hinted: set[str] = set()
            with contextlib.suppress(TimeoutError):
                # not wait_for: of Python 3.11 it swallows a cancellation that comes with the hint, and nobody asks again
                async with asyncio.timeout(POLL_S):
                    hinted.add(await self._hints.get())
            while not self._hints.empty():
                hinted.add(self._hints.get_nowait())
            everything = time.monotonic() - looked >= POLL_S
            ids = [i for i in self._waiting if everything or i in hinted]
            self._early.extend(hinted - self._waiting.keys())
            if everything:
                looked = time.monotonic()
            try:
                self._wake(await asyncio.to_thread(self.stores.steps.states, ids) if ids else {})
            except DBAPIError as error:
                log.warning("database away, trying again", error=str(error))
                await asyncio.sleep(POLL_S)

    def _wake(self, rows: dict[str, StepRecord]) -> None:
        for step_id, row in rows.items():
            future, on_progress = self._waiting.get(step_id, (None, None))
            if future is None or on_progress is None or future.done():
                continue
            if row.state in FINAL_STEPS:
                future.set_result(row)
            elif row.progress:
                on_progress(Progress.model_validate(row.progress))

    async def consumers(self, queue: Queue) -> int:
        """How many steps of a queue can run at once just now, at least one."""
        if time.monotonic() - self._slots_at > WORKERS_AGE_S:
            self._slots_at = time.monotonic()
            rows = await asyncio.to_thread(self.stores.jobs.live_workers, 3 * self.settings.lease.total_seconds())
            counts: Counter[Queue] = Counter()
            for row in rows:
                if row.queue:
                    counts[Queue(row.queue)] += row.slots
            self._slots = dict(counts)
        return max(1, self._slots.get(queue, 1))


async def when_disk_has_space(action: Callable[[], T], on_progress: OnProgress) -> T:
    """The result of something that writes to the disk, in a thread; as long as too little is free it is tried again."""
    while True:
        try:
            return await asyncio.to_thread(action)
        except DiskLow as error:
            log.warning("waiting for room on the disk", reason=error.message)
            on_progress(Progress(waits_for=f"room on the disk: {error.message}"))
            await asyncio.sleep(DISK_RETRY_S)
