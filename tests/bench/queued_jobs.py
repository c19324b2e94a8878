"""A thousand jobs that wait: `python -m tests.bench.queued_jobs [--jobs 1000] [--postgres]`. One line of JSON.

Through a real API: a page of 20 of them, the first, one in the middle and the last, 50 times each. Then one real orchestrator that
may run all at once, without workers: how long until the last one is running, each opened and its first steps made; then the
processor time that it takes to hold them.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import func, select

from services.orchestrator.scheduler import Orchestrator
from services.orchestrator.settings import OrchestratorSettings
from shared.artifacts.opening import open_artifacts
from shared.contracts.distillation import Distillation, EvaluationSettings
from shared.contracts.graders import Grader
from shared.contracts.jobs import JobRequest, JobStatus
from shared.db.engine import reading
from shared.jobs.schema import Stores, open_stores
from shared.jobs.tables import DEFAULT_PROJECT, jobs, steps
from shared.ledger.store import open_ledger
from shared.platform.settings import platform_settings
from tests.contract.conftest import BASE, KEY, running_api
from tests.fakes.postgres import running_postgres
from tests.fakes.simulated import questions
from tests.fakes.store_moves import processed_file
from tests.fakes.valkey import running_valkey

ASKED, PAGE = 50, 20
HELD_S = 20.0


def page_ms(http: httpx.Client, after: str | None) -> dict[str, float]:
    times = []
    for _ in range(ASKED):
        begun = time.perf_counter()
        answer = http.get("/v1/distillation/jobs", params={"limit": PAGE} | ({"after": after} if after else {}))
        times.append(1000 * (time.perf_counter() - begun))
        assert len(answer.raise_for_status().json()["data"]) == PAGE
    times.sort()
    return {"p50_ms": round(times[ASKED // 2], 1), "most_ms": round(times[-1], 1)}


def pages(url: str, pid: int, ids: list[str]) -> dict[str, Any]:
    """ids: in order of posting; a page shows the newest first."""
    headers, server = {"authorization": f"Bearer {KEY}"}, psutil.Process(pid)
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as http:
        http.get("/v1/distillation/jobs").raise_for_status()
        cpu = sum(server.cpu_times()[:2])
        told: dict[str, Any] = {
            name: page_ms(http, after)
            for name, after in (("first", None), ("middle", ids[len(ids) // 2]), ("last", ids[PAGE]))
        }
        told["api_cpu_ms_per_page"] = round(1000 * (sum(server.cpu_times()[:2]) - cpu) / (3 * ASKED), 1)
    return told


async def picked_up(stores: Stores, count: int) -> dict[str, float]:
    """Seconds until the last of them runs, and processor time of this process meanwhile and while it holds all of them."""
    platform = platform_settings()
    orchestrator = Orchestrator(
        stores, open_ledger(platform.ledger_database), platform, OrchestratorSettings(max_jobs=count)
    )
    running = select(func.count()).where(jobs.c.status == JobStatus.RUNNING)
    with_steps = select(func.count(func.distinct(steps.c.job_id)))
    cpu, begun = time.process_time(), time.monotonic()
    task, claimed_s = asyncio.create_task(orchestrator.run_forever()), 0.0
    while True:
        await asyncio.sleep(0.1)
        with reading(stores.jobs.engine) as connection:
            taken, opened = (connection.execute(query).scalar_one() for query in (running, with_steps))
        if taken == count and not claimed_s:
            claimed_s = time.monotonic() - begun
        if opened == count:
            break
        assert not task.done(), task
    opened_s, opened_cpu = time.monotonic() - begun, time.process_time()
    await asyncio.sleep(HELD_S)
    held_cpu = time.process_time() - opened_cpu
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await orchestrator.drain()
    return {
        "running_after_s": round(claimed_s, 2),
        "first_steps_after_s": round(opened_s, 2),
        "orchestrator_cpu_ms_per_job": round(1000 * (opened_cpu - cpu) / count, 1),
        "then_cpu_ms_per_second": round(1000 * held_cpu / HELD_S, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--postgres", action="store_true", help="in place of SQLite")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meteor-bench-")))
        own = {"METEOR_DATA": str(folder), "METEOR_STUDENT_MODEL": BASE, "METEOR_LOG_LEVEL": "WARNING"}
        own["REDIS_URL"] = stack.enter_context(running_valkey())
        if given.postgres:
            own["DATABASE_URL"] = stack.enter_context(running_postgres("127.0.0.1"))
        os.environ |= own
        api = stack.enter_context(running_api(folder, **own))
        platform = platform_settings()
        stores = open_stores(platform.database)
        file = processed_file(stores, open_artifacts(platform), questions(train=40, dev=20, test=20))
        spec = Distillation(
            domain="d", primary_metric=Grader.CHRF, evaluation=EvaluationSettings(baselines=[], forgetting=0)
        )
        request = JobRequest(model=BASE, training_file=file, distillation=spec)
        begun = time.monotonic()
        ids = [stores.jobs.create(DEFAULT_PROJECT, request).id for _ in range(given.jobs)]
        told: dict[str, Any] = {"jobs": given.jobs, "database": "postgres" if given.postgres else "sqlite"}
        told["stored_ms_per_job"] = round(1000 * (time.monotonic() - begun) / given.jobs, 2)
        told["pages"] = pages(api.url, api.process.pid, ids)
        told["orchestrator"] = asyncio.run(picked_up(stores, given.jobs))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
