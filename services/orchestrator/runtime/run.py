"""`DurableRun`: one job while an orchestrator holds it: durable steps, and events and progress for users."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from services.orchestrator.runtime.eta_error import EtaError
from services.orchestrator.runtime.fair_limit import FairLimit
from services.orchestrator.runtime.progress import ProgressMeter
from services.orchestrator.runtime.refusals import Refusals, described
from services.orchestrator.runtime.steps import StepClient
from shared.artifacts.opening import open_uploads
from shared.contracts.jobs import JobProgress
from shared.contracts.refusals import MOST, RefusedRow
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import rows_of, step_request
from shared.contracts.steps import Progress, StepKind, StepResult, Wire
from shared.jobs.records import JobRecord
from shared.ledger.store import Ledger
from shared.plan.plan import PlannedRows
from shared.plan.rates import Rates
from shared.reporting.durations import time_left

NOTE_S = 2.0  # how often progress reaches the job's row
HEARTBEAT_S = 55.0  # without another event, after so long one says what is at work
SHOWN_STEPS = 3
T = TypeVar("T")
R = TypeVar("R")


def batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


class PauseHere(Exception):
    """The job has ended the stage after which it pauses."""

    def __init__(self, stage: str, reason: str):
        super().__init__(reason)
        self.stage = stage
        self.reason = reason


class DurableRun:
    """One job while an orchestrator holds it. Keys make every call of `step` a restart point.

    plan: rows that are planned. batch_size: rows of one step in `gather`. most_refused: the share of a phase's rows that the
    provider may refuse. rates: expected speeds.
    """

    def __init__(
        self,
        job: JobRecord,
        steps: StepClient,
        ledger: Ledger,
        plan: PlannedRows,
        batch_size: int,
        most_refused: float = MOST,
        rates: Rates | None = None,
    ):
        self.job = job
        self.ledger = ledger
        self.stores = steps.stores
        self.artifacts = steps.artifacts
        self.data = steps.settings.data
        self.uploads = open_uploads(steps.settings)
        self.figures: dict[StepKey, dict[str, Any]] = {}  # per step: what its worker counted
        self.batch_size = batch_size
        self._steps = steps
        self._waits: dict[StepKey, str | None] = {}  # running step -> what it waits for
        self._reason: str | None = job.status_reason  # what the job's row says of that
        self._noted: dict[str, Any] = {}  # what `note_progress` wrote last
        self._limit = FairLimit(steps.consumers)
        self._meter = ProgressMeter(plan, rates=rates)
        self.eta_error = EtaError()
        self._worked: dict[StepKey, Progress] = {}  # running step -> what it reported last
        self._said = time.monotonic()  # when an event of the job was written last
        self._refusals = Refusals(plan, most_refused)

    # durable steps

    def expect(self, kind: StepKind, rows: int) -> None:
        """So many rows come on top of what was planned, or (below zero) fall away."""
        self._meter.more(kind, rows)

    async def step(self, key: StepKey | str, kind: StepKind, params: Wire, rows: Sequence[Wire]) -> StepResult:
        """Run one step, or take its finished result. key: stable within the job, e.g. "distill/answers/3"."""
        key = StepKey.parse(key) if isinstance(key, str) else key
        request = step_request(kind, params, [row.model_dump(mode="json") for row in rows])
        size = rows_of(params, max(len(rows), 1))

        def on_progress(progress: Progress) -> None:
            self._waits[key] = progress.waits_for
            self._worked[key] = progress
            self._meter.running(key, kind, size, progress.done / progress.total if progress.total else 0)

        try:
            result = await self._steps.run(self.job, key, request, self._limit, on_progress)
        except BaseException:
            self._meter.stopped(key)
            raise
        finally:
            self._waits.pop(key, None)
            self._worked.pop(key, None)
        self._meter.ended(key, kind, size)
        self.figures[key] = result.metrics
        await self._note_refusals(key, kind, [row["id"] for row in request.rows if "id" in row], result)
        return result

    def refused_rows(self) -> list[RefusedRow]:
        """Those that a provider always refused."""
        return self._refusals.rows

    async def _note_refusals(self, key: StepKey, kind: StepKind, ids: list[str], result: StepResult) -> None:
        """Raises TooManyRefused."""
        if refused := self._refusals.note(key, kind, ids, result.metrics):
            await self.emit(
                f"step {key}: the provider refuses {len(refused)} of {len(ids)} rows; {described(refused)}",
                type="refused",
                level="warn",
                rows=[row.model_dump() for row in refused],
            )
            self._refusals.check(key, kind)

    async def gather(self, flow: Callable[[int, Sequence[T]], Coroutine[Any, Any, R]], items: Sequence[T]) -> list[R]:
        """flow(index, batch) over all batches at once; each goes its own way, results come in batch order.

        The first failure cancels the others' waiting; finished steps stay finished.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(flow(index, batch)) for index, batch in enumerate(batches(items, self.batch_size))
            ]
        return [task.result() for task in tasks]

    # events and progress

    async def emit(
        self, message: str, *, type: str = "message", level: str = "info", again: bool = False, **data: Any
    ) -> None:
        """again: also where the job has said the same before; else a replay repeats nothing."""
        self._said = time.monotonic()
        await asyncio.to_thread(
            self.stores.jobs.add_event, self.job, message, level=level, type=type, data=data or None, once=not again
        )

    async def enter(self, phase: str) -> None:
        self._meter.enter(phase)
        await asyncio.to_thread(self.stores.jobs.note, self.job, phase=phase)
        await self.emit(f"phase {phase} begins", type="phase", phase=phase)

    async def note_progress(self) -> None:
        """Called every NOTE_S seconds by whoever runs the job."""
        progress = self._meter.progress()
        self.eta_error.note(progress.eta_seconds)
        values: dict[str, Any] = {"progress": progress.model_dump()}
        reason = next(filter(None, self._waits.values()), None)
        if reason != self._reason:
            values["status_reason"] = reason
        if values != self._noted:
            await asyncio.to_thread(self.stores.jobs.note, self.job, **values)
            # not before they stand in the row: while the database is unavailable they are written again
            self._reason, self._noted = reason, values
        if self._worked and time.monotonic() - self._said >= HEARTBEAT_S:
            await self.emit(self._heartbeat(progress), type="progress", again=True, percent=progress.percent)

    def _heartbeat(self, progress: JobProgress) -> str:
        """What runs, how far it is, and the time left."""
        parts = []
        for key, step in sorted(self._worked.items(), key=lambda item: str(item[0])):
            done = step.waits_for or (f"{step.done} of {step.total}" if step.total else "begun")
            parts.append(f"{key}: {done}")
        more = f" and {len(parts) - SHOWN_STEPS} more steps" if parts[SHOWN_STEPS:] else ""
        left = f"; {time_left(progress)}" if progress.eta_seconds else ""
        return f"at work: {', '.join(parts[:SHOWN_STEPS])}{more}; {progress.percent:.1f} %{left}"
