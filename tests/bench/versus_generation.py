"""Generating a dataset: our queue and gateway against distilabel, on the same paced fake teacher.

    python -m venv /tmp/distilabel && /tmp/distilabel/bin/pip install "distilabel[openai]" requests
    python -m tests.bench.versus_generation --distilabel /tmp/distilabel/bin/python

The teacher takes 0.2 s for a call and computes 16 at once, so at most 80 rows/s come. Each tool runs as it is shipped (batches of 16 and
of 50), twice: undisturbed, and with all its processes killed by SIGKILL after half of the calls and started again.
rows_per_s: between the first and the last call of the undisturbed run. Of the run with the kill: `ended` (false: it asked nothing
more for 60 s and did not end), `duplicates` and `missing` rows of its dataset; `asked_again`: calls whose question the teacher had
been asked before, which most providers bill; `answered_again`: those that it answered twice; `pause_s`: the longest time in which
the teacher was not asked.
`ratio` is ours over distilabel's rows_per_s. Prints one line of JSON.
"""

import argparse
import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from shared.artifacts.store import Artifacts
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Distillation, Guidance, Phase
from shared.contracts.jobs import JobRequest
from shared.jobs.schema import open_stores
from shared.jobs.tables import DEFAULT_PROJECT
from shared.ledger.store import open_ledger
from shared.platform import process_guard
from shared.platform.settings import PlatformSettings
from tests.bench.others import (
    answers,
    clean_environment,
    or_skipped,
    processes_of,
    processor_s,
    python_with,
    version_in,
)
from tests.fakes.ports import free_port, wait_until
from tests.fakes.start import ROOT, FakeServer, start_teacher
from tests.fakes.store_moves import processed_file
from tests.fakes.valkey import running_valkey

LATENCY_S, AT_ONCE = 0.2, 16
SILENT_S = 60.0  # a tool that asks the teacher nothing for so long and does not end has failed
ASKED = re.compile(r"question \d+ of bench")
LONGEST_S = 600.0  # for a machine that does other work beside; alone it takes seconds


class Run(NamedTuple):
    """What one run made (the questions of its rows), the processor time it took, and whether it came to its end."""

    questions: list[str]
    processor_s: float
    ended: bool = True


Half = Callable[[], None]  # returns when the teacher was asked half of the questions
Generate = Callable[[FakeServer, int, Path, Half | None], Run]  # with Half: killed then, and begun again


@contextmanager
def ours_running(environment: dict[str, str]) -> Generator[list[subprocess.Popen]]:
    """Gateway, strong worker and orchestrator as processes of their own."""
    modules = (
        ["services.strong_model", "gateway"],
        ["services.strong_model", "worker"],
        ["tests.bench.generation_orchestrator"],
    )
    started = [
        subprocess.Popen(
            process_guard.command([sys.executable, "-m", *module]),
            stdin=subprocess.PIPE, stdout=sys.stderr, cwd=ROOT, env=os.environ | environment,
        )
        for module in modules
    ]  # fmt: skip
    try:
        yield started
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(30)


def kill(processes: list[subprocess.Popen]) -> None:
    """SIGKILL to all of them and their children, as when the machine goes away."""
    for process in [one for root in processes if root.poll() is None for one in processes_of(root.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, 9)
    for root in processes:
        root.wait(30)


def ours(teacher: FakeServer, count: int, folder: Path, half: Half | None) -> Run:
    port = free_port()
    with running_valkey() as broker:
        environment = {
            "METEOR_DATA": str(folder),
            "REDIS_URL": broker,
            "DATABASE_URL": f"sqlite:///{folder / 'meteor.sqlite3'}",
            "METEOR_INTERNAL_TOKEN": "token-of-the-bench",
            "METEOR_STRONG_PORT": str(port),
            "METEOR_STRONG_GATEWAY_URL": f"http://127.0.0.1:{port}",
            "METEOR_TEACHER_BASE_URL": teacher.base_url,
            "METEOR_TEACHER_MODEL": "fake-large",
            "METEOR_TEACHER_API_KEY": "none",
            "METEOR_LOG_LEVEL": "WARNING",
        }
        stores, artifacts = open_stores(environment["DATABASE_URL"]), Artifacts(PlatformSettings(data=folder).artifacts)
        open_ledger(environment["DATABASE_URL"])
        with ours_running(environment) as processes:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/healthz"), 120, "the gateway")
            wait_until(lambda: len(stores.jobs.live_workers(60)) >= 2, 120, "worker and orchestrator")
            used = sum(processor_s(process.pid) for process in processes)
            rows = [Question(id=f"q{n}", question=f"question {n} of bench", split=Split.TRAIN) for n in range(count)]
            spec = Distillation(domain="bench", phases=[Phase.DISTILL], guidance=Guidance.WEAK)
            file = processed_file(stores, artifacts, rows)
            request = JobRequest(model="bench", training_file=file, distillation=spec)
            job = stores.jobs.create(DEFAULT_PROJECT, request)

            def ended() -> bool:
                return (now := stores.jobs.get(job.id)) is not None and now.status in ("succeeded", "failed")

            if half is None:
                wait_until(ended, LONGEST_S, "the job")
                used = sum(processor_s(process.pid) for process in processes) - used
            else:
                half()
                kill(processes)
        if half is not None:
            with ours_running(environment):
                wait_until(ended, LONGEST_S, "the job after the kill")
        done = stores.jobs.get(job.id)
        assert done is not None
        if done.report_ref is None:
            raise RuntimeError(f"the job {done.status}: {done.error}")
        return Run([row["question"] for row in artifacts.get_json(done.report_ref)], used)


def by_distilabel(python: Path) -> Generate:
    script = Path(__file__).with_name("generation_distilabel.py")
    environment = clean_environment(HF_HUB_OFFLINE="1", TQDM_DISABLE="1")

    def generate(teacher: FakeServer, count: int, folder: Path, half: Half | None) -> Run:
        output = folder / "rows.jsonl"
        argv = [str(python), str(script), teacher.base_url, str(count), str(folder / "cache"), str(output)]

        def begun() -> subprocess.Popen[str]:
            return subprocess.Popen(
                argv, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=sys.stderr, text=True
            )

        process = begun()
        try:
            if half is not None:
                half()
                kill([process])
                process = begun()
            said = _said(process, teacher)
        finally:
            if process.poll() is None:
                kill([process])
        if said is None:
            return Run([], 0.0, ended=False)
        if process.returncode:
            raise RuntimeError(f"distilabel ended with {process.returncode}")
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        return Run([row["question"] for row in rows], float(said.split()[-1]))

    return generate


def _said(process: subprocess.Popen[str], teacher: FakeServer) -> str | None:
    """Its output when it ends; None where it goes on without asking the teacher anything."""
    calls, since = -1, time.monotonic()
    while time.monotonic() - since < SILENT_S:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=1)[0]
        if (now := len(teacher.logged_lines())) != calls:
            calls, since = now, time.monotonic()
    return None


def measure(generate: Generate, count: int) -> dict[str, Any]:
    undisturbed, calls, at = _one(generate, count, killed=False)
    seconds = max(at) - min(at)
    result: dict[str, Any] = {
        "rows_per_s": round((len(at) - 1) / seconds, 1),
        "processor_ms_per_row": round(1000 * undisturbed.processor_s / count, 2),
        "undisturbed": _faults(undisturbed, calls, count),
    }
    killed, calls, at = _one(generate, count, killed=True)
    moments = sorted(at)
    pause = max(later - earlier for earlier, later in itertools.pairwise(moments))
    return result | {"killed": _faults(killed, calls, count) | {"pause_s": round(pause, 1)}}


def _one(generate: Generate, count: int, killed: bool) -> tuple[Run, list[dict[str, Any]], list[float]]:
    """(what was made, the calls as the teacher saw them, when they came)."""
    options = ("--latency", str(LATENCY_S), "--concurrency", str(AT_ONCE), "--model", "fake-large")
    with tempfile.TemporaryDirectory(prefix="meteor-bench-") as folder, start_teacher(*options) as teacher:

        def half() -> None:
            wait_until(lambda: len(teacher.logged_lines()) >= count // 2, LONGEST_S, "half of the calls")

        run = generate(teacher, count, Path(folder), half if killed else None)
        calls = [call for call in teacher.log() if ASKED.search(_text(call))]
        return run, calls, [call["at"] for call in calls]


def _faults(run: Run, calls: list[dict[str, Any]], count: int) -> dict[str, int | bool]:
    rows = Counter(run.questions)
    asked = Counter(_question(call) for call in calls)
    answered = Counter(_question(call) for call in calls if call["outcome"] == "answered")
    return {
        "ended": run.ended,
        "rows": len(run.questions),
        "duplicates": sum(rows.values()) - len(rows),
        "missing": count - len(rows),
        "calls": len(calls),
        "asked_again": sum(asked.values()) - len(asked),
        "answered_again": sum(answered.values()) - len(answered),
    }


def _text(call: dict[str, Any]) -> str:
    return json.dumps(call["messages"])


def _question(call: dict[str, Any]) -> str:
    match = ASKED.search(_text(call))
    assert match is not None
    return match[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--distilabel", type=Path, help="python of an environment with distilabel[openai]")
    parser.add_argument("--rows", type=int, default=1600)
    given = parser.parse_args()
    made = measure(ours, given.rows)

    def others() -> dict[str, Any]:
        python = python_with(given.distilabel, "distilabel.models", "--distilabel", "distilabel[openai] requests")
        return measure(by_distilabel(python), given.rows) | {"version": version_in(python, "distilabel")}

    theirs = or_skipped(others)
    result = {"benchmark": "generation_versus_distilabel", "rows": given.rows, "ours": made, "distilabel": theirs}
    if "skipped" not in theirs:
        result["ratio"] = round(made["rows_per_s"] / theirs["rows_per_s"], 3)
    result["load"] = round(os.getloadavg()[0], 1)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
