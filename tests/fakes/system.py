"""Whole jobs in one process: the real API functions, orchestrator, step client and database; queues in memory, as first in,
first out as the broker's, and workers that only pretend (tests.fakes.simulated)."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from services.api.context import open_context
from services.api.features.jobs import service as api_jobs
from services.api.features.results import service as results
from services.api.settings import ApiSettings
from services.orchestrator.runtime import steps as step_runner
from services.orchestrator.runtime.steps import StepClient
from services.orchestrator.scheduler import Orchestrator
from services.orchestrator.settings import OrchestratorSettings
from shared.contracts.errors import MeteorError
from shared.contracts.jobs import JobRequest
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Queue, StepKind, StepRequest, StepResult, content_hash
from shared.db.engine import writing
from shared.jobs.step_store import Claim
from shared.jobs.tables import DEFAULT_PROJECT, steps
from shared.ledger.store import CallOrigin, Cost, open_ledger
from shared.platform.settings import PlatformSettings
from tests.fakes.simulated import BASE, World, questions
from tests.fakes.store_moves import processed_file

ASKING = frozenset(
    {StepKind.TEACH, StepKind.REVIEW, StepKind.COMPARE, StepKind.RATE}
)  # one call to a strong model a row


class System:
    """slots: steps at once by queue. seconds: how long a step takes. fails: the error that a step ends with, if any."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, world: World | None = None):
        self.settings = PlatformSettings(data=folder)
        monkeypatch.setenv("METEOR_STUDENT_MODEL", BASE.base)
        self.context = open_context(ApiSettings(gateway_url="http://127.0.0.1:1"), self.settings).of_project()
        self.stores, self.artifacts = self.context.stores, self.context.artifacts
        self.ledger = open_ledger(self.settings.ledger_database)
        self.world = world or World(0.3, train=lambda request, before: 0.9)
        self.slots: Mapping[Queue, int] = dict.fromkeys(Queue, 2)
        self.seconds: Callable[[StepRequest], float] = lambda request: 0.0
        self.fails: Callable[[str], MeteorError | None] = lambda key: None
        self.lease_s = 3600.0  # nobody renews it
        self.ran: defaultdict[str, list[str]] = defaultdict(list)  # job -> keys of the steps that a worker ran
        self.queues: dict[Queue, asyncio.Queue[str]] = {}
        self._ended: set[Callable[[str], None]] = set()
        monkeypatch.setattr(step_runner, "send", self.send)

    def send(self, step_id: str, queue: Queue) -> None:
        self.loop.call_soon_threadsafe(self.queues[queue].put_nowait, step_id)

    @asynccontextmanager
    async def running(self, orchestrators: int = 1, **settings: Any) -> AsyncGenerator[list[Orchestrator]]:
        self.loop = asyncio.get_running_loop()
        self.queues = {queue: asyncio.Queue() for queue in Queue}
        made = [self._orchestrator(number, **settings) for number in range(orchestrators)]
        tasks = [asyncio.create_task(one.run_forever()) for one in made]
        for queue, slots in self.slots.items():
            self.stores.jobs.heartbeat(f"pretended-{queue}", DEFAULT_PROJECT, "pretended", queue, slots)
            tasks += [asyncio.create_task(self._work(queue, f"{queue}-{slot}")) for slot in range(slots)]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for one in made:
                await one.drain()

    def _orchestrator(self, number: int, **settings: Any) -> Orchestrator:
        one = Orchestrator(self.stores, self.ledger, self.settings, OrchestratorSettings(**settings))
        one.owner += f":{number}"
        one.steps = _Hinted(self, one.steps)
        return one

    async def _work(self, queue: Queue, worker: str) -> None:
        while True:
            step_id = await self.queues[queue].get()
            claim = self.stores.steps.claim(step_id, worker, self.lease_s)
            if claim is None:
                continue
            self.ran[claim.job_id].append(claim.key)
            request = StepRequest.model_validate(self.artifacts.get_json(claim.input_hash))
            await asyncio.sleep(self.seconds(request))
            try:
                if (error := self.fails(claim.key)) is not None:
                    raise error
                result = await self.world.run(None, StepKey.parse(claim.key), request, None, lambda progress: None)
            except MeteorError as error:
                self.stores.steps.fail(claim, error.body(), False, 4)
            else:
                result = self._published(result)
                self._paid(claim, request)
                reference = self.artifacts.put_json(result.model_dump(mode="json"))
                self.stores.steps.finish(claim, reference, result.metrics)
            for tell in self._ended:
                tell(step_id)

    def _published(self, result: StepResult) -> StepResult:
        """What was trained, as a folder of its own among artifacts and serving copies."""
        if result.adapter is None:
            return result
        folder = self.settings.data / "made" / result.adapter
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter.json").write_text(json.dumps(result.adapter))
        digest = self.artifacts.put_folder(folder)
        (self.settings.serving / digest).mkdir(parents=True, exist_ok=True)
        self.world.skills[digest] = self.world.skills[result.adapter]
        return result.model_copy(update={"adapter": digest})

    def _paid(self, claim: Claim, request: StepRequest) -> None:
        """As the gateway does: kept answers cost nothing."""
        for row in request.rows if request.kind in ASKING else []:
            origin = CallOrigin(
                claim.project_id, claim.job_id, claim.step_id, StepKey.parse(claim.key).phase, row["id"]
            )
            asked = content_hash([request.kind, request.params, row])
            if self.ledger.kept(claim.project_id, asked) is not None:
                self.ledger.note_cached(origin, "default", "m", asked)
                continue
            call = self.ledger.begin(origin, "default", "m", asked)
            self.ledger.settle(call, "ok", Cost(10, 1, 1e-3), keep={"row": row["id"]})

    # what tests do and look at

    def file(self, **sizes: Any) -> str:
        given: dict[str, Any] = {"train": 40, "dev": 20, "test": 20} | sizes
        return processed_file(self.stores, self.artifacts, questions(**given))

    def post(self, file: str, suffix: str = "expert", seed: int = 0, validation: str | None = None, **spec: Any) -> str:
        evaluation = {"baselines": [], "forgetting": 0}
        distillation = {"domain": "d", "primary_metric": "string_check", "guidance": "weak", "evaluation": evaluation}
        body = {"model": BASE.base, "training_file": file, "suffix": suffix, "seed": seed}
        body |= {"validation_file": validation}
        request = JobRequest.model_validate(body | {"distillation": distillation | spec})
        return api_jobs.create(self.context, request).id

    def row(self, job_id: str) -> Any:
        return self.stores.jobs.get(job_id)

    async def until(self, job_id: str, *statuses: str, within_s: float = 180) -> Any:
        async with asyncio.timeout(within_s):
            while True:
                row = self.row(job_id)
                if row.status in statuses:
                    return row
                assert row.status not in ("failed", "succeeded", "cancelled"), (row.status, row.error)
                await asyncio.sleep(0.02)

    async def until_ran(self, job_id: str, steps: int) -> int:
        """Until workers have begun so many steps of a job; returns how many it are."""
        async with asyncio.timeout(180):
            while True:
                if len(self.ran[job_id]) >= steps:
                    return len(self.ran[job_id])
                await asyncio.sleep(0.01)

    def expire_leases(self) -> None:
        """What the workers that have ended held is free, as after `lease_s`; a short one would end under slow steps too."""
        with writing(self.stores.jobs.engine) as connection:
            connection.execute(update(steps).where(steps.c.state == "running").values(lease_expires=0.0))

    def calls(self, job_id: str) -> int:
        """Calls to strong models that this job paid for."""
        return self.ledger.usage(job_id).teacher_calls

    def report(self, job_id: str) -> dict[str, Any]:
        return results.report(self.context, job_id)


class _Hinted(StepClient):
    """The real step client; hints come from the pretended workers."""

    def __init__(self, system: System, real: StepClient):
        super().__init__(real.stores, real.artifacts, real.settings)
        system._ended.add(self._hints.put_nowait)

    async def listen(self) -> None:
        await asyncio.Event().wait()
