"""How full the engine is kept: `python -m tests.bench.engine` (part of `make bench`).

A real vLLM with a tiny random model, a real broker, database and weak worker; one job's guidelines for 1,920 questions.
Every quarter of a second vLLM's own metrics are read: of its `max_num_seqs`, how many requests does it compute?
Samples count while steps still wait, so neither the start nor the tail is in them. Prints one JSON object.
"""

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from services.orchestrator.method.run import DistillationRun
from services.weak_model.settings import EngineSettings, WeakSettings
from shared.contracts.data import Question
from shared.contracts.distillation import Distillation
from shared.contracts.rows import StudentPrompt, asked
from shared.contracts.steps import Sampling, StepKind, StudentParams
from shared.jobs.schema import Stores, open_stores
from shared.platform.settings import platform_settings
from tests.bench.pipeline import a_run
from tests.fakes.ports import free_port, wait_until
from tests.fakes.start import running
from tests.fakes.tiny_model import make_tiny_llama
from tests.fakes.valkey import running_valkey

QUESTIONS, TOKENS, LOOK_S = 1920, 48, 0.25
BATCH = Distillation(domain="bench").batch_size


async def write_guidelines(run: DistillationRun, questions: list[Question]) -> None:
    ctx, sampling = run.context, Sampling(max_tokens=TOKENS, temperature=1.0)
    params = StudentParams(model=ctx.base, domain=ctx.spec.domain, sampling=sampling)

    async def guidelines(index: int, batch: Sequence[Question]) -> None:
        await run.step(
            f"distill/guidelines/{index}", StepKind.GUIDE, params, [StudentPrompt(**asked(q)) for q in batch]
        )

    await run.gather(guidelines, questions)


async def sample(engine_url: str, stores: Stores, job_id: str, filling: list[float]) -> None:
    """Note how many requests run, as long as a step of the job waits for a worker."""
    async with httpx.AsyncClient() as client:
        while True:
            await asyncio.sleep(LOOK_S)
            text = (await client.get(f"{engine_url}/metrics")).text
            counts = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running{")]
            steps = await asyncio.to_thread(stores.steps.of_job, job_id)
            if steps and any(step.state == "queued" for step in steps):
                filling.append(float(counts[0].rpartition(" ")[2]))


async def measure(engine_url: str) -> dict[str, object]:
    stores, filling = open_stores(platform_settings().database), []
    async with a_run(stores, QUESTIONS, "engine", "tiny", BATCH) as (run, questions):
        sampling = asyncio.create_task(sample(engine_url, stores, run.job.id, filling))
        started = time.perf_counter()
        await write_guidelines(run, questions)
        seconds = time.perf_counter() - started
        sampling.cancel()
    cap = EngineSettings().max_num_seqs
    return {
        "questions": QUESTIONS,
        "seconds": round(seconds, 1),
        "cap": cap,
        "running_mean": round(statistics.fmean(filling), 1),
        "running_of_cap": round(statistics.fmean(filling) / cap, 3),
        "samples": len(filling),
        "worker_slots": WeakSettings().slots,
        "rows_per_step": BATCH,
    }


def main() -> None:
    with running_valkey() as url, tempfile.TemporaryDirectory(prefix="meteor-bench-") as folder:
        port = free_port()
        engine_url = f"http://127.0.0.1:{port}"
        os.environ |= {
            "REDIS_URL": url,
            "METEOR_DATA": folder,
            "METEOR_ENGINE_PORT": str(port),
            "METEOR_ENGINE_MODEL": str(make_tiny_llama(Path(folder) / "tiny")),
            "METEOR_ENGINE_SERVED_NAME": "tiny",
            "METEOR_ENGINE_MAX_MODEL_LEN": "512",
            "METEOR_WEAK_ENGINE_URL": engine_url,
        }
        stores = open_stores(platform_settings().database)
        with running(["services.weak_model", "engine"], f"{engine_url}/health", timeout_s=400):
            worker = ["services.weak_model", "worker"]
            with running(worker, f"{engine_url}/health"):
                ready = lambda: any(w.queue == "weak" for w in stores.jobs.live_workers(30))  # noqa: E731
                wait_until(ready, 60, "the weak worker")
                print(json.dumps(asyncio.run(measure(engine_url))))


if __name__ == "__main__":
    main()
