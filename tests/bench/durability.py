"""What durability costs: `python -m tests.bench.durability`, one line of JSON.

A step that does nothing: its time, and the SQL statements that orchestrator and worker make for it. Then phase 1 of a job of
1,000 and of one of 10,000 questions (--also 100000: one more, and the exponent of time from 10,000 to it), whose models take no time, through real broker, workers, messages and database: seconds,
and the peak memory of the process that orchestrates.
"""

import argparse
import asyncio
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import event

from shared.contracts.rows import Guideline, StudentPrompt
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import step_request
from shared.contracts.steps import ModelRef, Sampling, StepKind, StepRequest, StepResult, StudentParams
from shared.jobs.schema import Stores, open_stores
from shared.platform.settings import platform_settings
from shared.queue.step_task import StepContext, StepRunner
from tests.bench.pipeline import a_run, measure
from tests.fakes.valkey import running_valkey

STEPS, SMALL, LARGE = 200, 1_000, 10_000


@contextmanager
def counting(stores: Stores) -> Generator[Counter[str]]:
    """Counts statements and transactions that this process sends to the database."""
    counts: Counter[str] = Counter()

    @event.listens_for(stores.steps.engine, "before_cursor_execute")
    def count(_connection, _cursor, statement: str, *_):
        counts["transactions" if statement.startswith("BEGIN") else "statements"] += 1

    try:
        yield counts
    finally:
        event.remove(stores.steps.engine, "before_cursor_execute", count)


async def guide(request: StepRequest, _: StepContext) -> StepResult:
    return StepResult(rows=[Guideline(id=row["id"], guideline="g", finish_reason="stop").model_dump()
                            for row in request.rows])  # fmt: skip


def one_step() -> dict[str, float]:
    """The mean over STEPS steps, one after the other, orchestrator and worker in this process: no message is waited for."""
    stores = open_stores(platform_settings().database)
    runner = StepRunner("bench", {StepKind.GUIDE: guide})
    params = StudentParams(model=ModelRef(base="bench", base_hash="0"), domain="bench", sampling=Sampling())

    async def steps() -> dict[str, float]:
        async with a_run(stores, 1, "steps") as (run, _):
            requests = [step_request(StepKind.GUIDE, params, [StudentPrompt(id=str(i), question="q").model_dump()])
                        for i in range(STEPS)]  # fmt: skip
            begun, began = [], time.perf_counter()
            with counting(stores) as orchestrator:
                for number, request in enumerate(requests):
                    begun.append(run._steps._begin(run.job, StepKey("bench", batch=number), request))
            sent = time.perf_counter()
            with counting(stores) as worker:
                for row in begun:
                    await asyncio.to_thread(runner.run, row.id)
            done = time.perf_counter()
            with counting(stores) as looking:
                stores.steps.states([row.id for row in begun])
        return {
            "orchestrator_ms": round(1000 * (sent - began) / STEPS, 2),
            "worker_ms": round(1000 * (done - sent) / STEPS, 2),
            "orchestrator_statements": (orchestrator["statements"] + looking["statements"]) / STEPS,
            "worker_statements": worker["statements"] / STEPS,
            "writing_transactions": (orchestrator["transactions"] + worker["transactions"]) / STEPS,
        }

    return asyncio.run(steps())


def one_job(questions: int) -> dict[str, float]:
    """Seconds of phase 1, processor time of this process and its workers, and the peak of its memory; it has done nothing before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu = _processor_s()
    seconds = measure(questions, 0.0, 0.0, f"of-{questions}")
    cpu = _processor_s() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "peak_mb": round(peak / 1024, 1),
        "peak_before_mb": round(before / 1024, 1),
    }


def _processor_s() -> float:
    """Of this process and those that have ended below it."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


def apart(*options: str) -> dict[str, float]:
    """One measurement in a process, with a broker and in a data folder of its own."""
    with running_valkey() as url, tempfile.TemporaryDirectory(prefix="meteor-bench-") as folder:
        env = os.environ | {"REDIS_URL": url, "METEOR_DATA": folder, "METEOR_LOG_LEVEL": "WARNING"}
        argv = [sys.executable, "-m", "tests.bench.durability", *options]
        said = subprocess.run(argv, env=env, stdout=subprocess.PIPE, check=True, text=True).stdout
        return json.loads(said.splitlines()[-1])  # before it stands what the services log


def exponent(large: dict[str, float], huge: dict[str, float], questions: int) -> float:
    """Of time by questions, by processor time: other work on the machine does not count."""
    return math.log(huge["cpu_seconds"] / large["cpu_seconds"]) / math.log(questions / LARGE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", action="store_true", help="the step alone, in this process")
    parser.add_argument("--questions", type=int, help="one job alone, in this process")
    parser.add_argument("--also", type=int, help="one more job of so many questions, at least 10,000")
    given = parser.parse_args()
    if given.steps:
        print(json.dumps(one_step()))
    elif given.questions:
        print(json.dumps(one_job(given.questions)))
    else:
        small, large = apart("--questions", str(SMALL)), apart("--questions", str(LARGE))
        growth = {"time": round(large["seconds"] / small["seconds"], 2),
                  "memory_mb": round(large["peak_mb"] - small["peak_mb"], 1)}  # fmt: skip
        told: dict[str, dict[str, float] | float] = {
            "step": apart("--steps"),
            f"of_{SMALL}": small,
            f"of_{LARGE}": large,
            "growth": growth,
        }
        if given.also:
            huge = apart("--questions", str(given.also))
            told[f"of_{given.also}"], told["exponent"] = huge, round(exponent(large, huge, given.also), 3)
        print(json.dumps(told))


if __name__ == "__main__":
    main()
