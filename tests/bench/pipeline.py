"""What durability costs: `python -m tests.bench.pipeline` (part of `make bench`).

Phase 1 of a job of 2,000 questions on models that only take time: 50 ms a batch (weak) and 200 ms a batch (strong), real
broker, database, workers and messages. Then the same with models that take no time, for the overhead of one step.
Prints one JSON object.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from services.orchestrator.method.distill import distill
from services.orchestrator.method.run import DistillationRun
from services.orchestrator.method.state import State
from services.orchestrator.runtime.steps import StepClient
from shared.artifacts.store import Artifacts
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Distillation, DistillSettings, Guidance, Phase
from shared.contracts.jobs import JobRequest
from shared.contracts.steps import ModelRef
from shared.jobs.schema import Stores, open_stores
from shared.jobs.tables import DEFAULT_PROJECT
from shared.ledger.store import open_ledger
from shared.platform import process_guard
from shared.platform.settings import platform_settings
from tests.fakes.ports import wait_until
from tests.fakes.store_moves import job_rows
from tests.fakes.valkey import running_valkey

BATCH, WEAK_S, STRONG_S = 16, 0.05, 0.2


@contextlib.contextmanager
def workers(weak_s: float, strong_s: float):
    """One worker per queue, each taking one step at a time."""
    argvs = [("weak", weak_s), ("strong", strong_s), ("train", 0.0)]
    children = [
        subprocess.Popen(
            process_guard.command([sys.executable, "-m", "tests.bench.sleeping_worker", queue, str(seconds)]),
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for queue, seconds in argvs
    ]
    try:
        yield
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(20)


@contextlib.asynccontextmanager
async def a_run(
    stores: Stores, questions: int, name: str, model: str = "bench", batch_size: int = BATCH
) -> AsyncGenerator[tuple[DistillationRun, list[Question]]]:
    """A job of so many training questions as the orchestrator would hold it, its step client at work."""
    settings = platform_settings()
    rows = [Question(id=f"{name}-{i}", question=f"question {i} of {name}", split=Split.TRAIN) for i in range(questions)]
    file = stores.catalog.add_file(
        DEFAULT_PROJECT,
        sha256="0" * 64,
        bytes=0,
        filename="bench.jsonl",
        purpose="fine-tune",
        status="processed",
        errors=[],
    )
    spec = Distillation(
        domain="bench",
        phases=[Phase.DISTILL],
        guidance=Guidance.WEAK,
        batch_size=batch_size,
        distill=DistillSettings(epochs=1),
    )
    stores.jobs.create(DEFAULT_PROJECT, JobRequest(model=model, training_file=file.id, distillation=spec))
    job = stores.jobs.claim("bench", 3600)
    assert job is not None
    artifacts = Artifacts(settings.artifacts)
    steps, stored = StepClient(stores, artifacts, settings), job_rows(artifacts, rows)
    run = DistillationRun(
        job, ModelRef(base=model, base_hash="0"), stored, steps, open_ledger(settings.ledger_database)
    )
    background = [asyncio.create_task(steps.listen()), asyncio.create_task(steps.poll())]
    await asyncio.sleep(0.5)
    try:
        yield run, rows
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)


async def phase_one(stores: Stores, questions: int, name: str) -> float:
    """Seconds that phase 1 of one job takes."""
    async with a_run(stores, questions, name) as (run, _):
        started = time.perf_counter()
        ctx = run.context
        await distill(ctx, State(ctx.base, ctx.spec.guidance))
        return time.perf_counter() - started


def measure(questions: int, weak_s: float, strong_s: float, name: str) -> float:
    stores = open_stores(platform_settings().database)
    with workers(weak_s, strong_s):
        since = time.time()
        wait_until(lambda: sum(w.seen_at > since for w in stores.jobs.live_workers(60)) >= 3, 60, "workers")
        return asyncio.run(phase_one(stores, questions, name))


def main() -> None:
    with running_valkey() as url, tempfile.TemporaryDirectory(prefix="meteor-bench-") as folder:
        os.environ |= {"REDIS_URL": url, "METEOR_DATA": folder}
        Path(folder).mkdir(exist_ok=True)
        paced = measure(2000, WEAK_S, STRONG_S, "paced")
        instant = measure(2000, 0.0, 0.0, "instant")
    steps = -(-2000 // BATCH)
    print(
        json.dumps(
            {
                "questions": 2000,
                "steps": 2 * steps,
                "wall_seconds": round(paced, 2),
                "slower_model_busy_seconds": round(steps * STRONG_S, 2),
                "ratio": round(paced / (steps * STRONG_S), 3),
                "overhead_ms_per_step": round(1000 * instant / (2 * steps), 2),
            }
        )
    )


if __name__ == "__main__":
    main()
