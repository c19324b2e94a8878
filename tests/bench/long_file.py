"""A dataset of a million rows: `python -m tests.bench.long_file`. Prints lines for people and one line of JSON.

First in this process, per second of processor time: rows checked (validate), written by an import, and taken as an upload.
Then against an API of its own: the upload, a page of 20 rows in the middle, the check of a job, its posting, a preview. All the while
another process asks /healthz every 10 ms; told are how far the API's memory rose over its level after a small file, and the
answers' times, also without the time that the API's loop and the asker waited for a processor: what other work on the machine takes
shows in the one and not in the other.
"""

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from shared.artifacts.store import Artifacts
from shared.contracts.file_reading import ReadOptions
from shared.contracts.imports import ChatOptions
from shared.importing import storing
from shared.importing.rows import write_rows
from shared.importing.sources import rows_of
from tests.bench.upload import peak_mb
from tests.contract.conftest import BASE, KEY, running_api

ASK_EVERY_S = 0.01
LIMITS = storing.Limits(0.15, 0.20, 100, 10**7)
SYLLABLES = [
    a + b
    for a in ["ba", "ke", "lo", "mi", "nu", "pa", "re", "so", "ti", "vu"]
    for b in ["ran", "den", "lis", "mon", "tur", "gel"]
]


def write_file(path: Path, rows: int) -> None:
    """Questions of 6 to 25 made-up words and answers of 5 to 40; one in fifty repeats an earlier question with a mark more."""
    dice = random.Random(3)
    earlier = ""
    with path.open("w") as file:
        for number in range(rows):
            question = " ".join(dice.choices(SYLLABLES, k=dice.randint(6, 25))) + f" {number}"
            if number % 50 == 49:
                question = earlier + "?"
            earlier = question
            answer = " ".join(dice.choices(SYLLABLES, k=dice.randint(5, 40)))
            file.write(json.dumps({"question": question, "reference": answer}) + "\n")


def waited_s(pid: int) -> float:
    """Seconds that the main thread of a process has waited for a processor while it could have run."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9


def ask_health(url: str, pid: int, stop: Any, times: Any) -> None:
    """Another process: of every answer its seconds, and those without waiting for a processor, until `stop`."""
    asked: list[tuple[float, float]] = []
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
        while not stop.is_set():
            waited, begun = waited_s(pid) + waited_s(os.getpid()), time.perf_counter()
            http.get("/healthz").raise_for_status()
            seconds = time.perf_counter() - begun
            waited = waited_s(pid) + waited_s(os.getpid()) - waited
            asked.append((seconds, max(0.0, seconds - waited)))
            time.sleep(ASK_EVERY_S)
    times.put(asked)


@contextmanager
def watched(url: str, pid: int, figures: dict[str, Any], name: str) -> Generator[None]:
    """Note seconds, peak memory over now, and the times of /healthz while the body runs."""
    stop, times = multiprocessing.Event(), multiprocessing.Queue()
    asking = multiprocessing.Process(target=ask_health, args=(url, pid, stop, times))
    asking.start()
    time.sleep(0.3)
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak counts from here
    begun = time.monotonic()
    yield
    seconds, peak = time.monotonic() - begun, peak_mb(pid)
    stop.set()
    asked = times.get()
    asking.join()
    answers = sorted(seconds for seconds, _ in asked)
    figures[name] = {
        "seconds": round(seconds, 2),
        "peak_mb": round(peak, 1),
        "healthz_p99_ms": round(1000 * answers[int(0.99 * len(answers))], 1),
        "healthz_max_ms": round(1000 * answers[-1], 1),
        "healthz_max_without_waiting_ms": round(1000 * max(own for _, own in asked), 1),
        "asked": len(asked),
    }


def per_second(count: int, work: Callable[[], Any]) -> int:
    begun = time.process_time()
    work()
    return round(count / (time.process_time() - begun))


def throughput(path: Path, rows: int, folder: Path) -> dict[str, int]:
    """Rows per second of processor time."""
    artifacts = Artifacts(folder / "artifacts")

    def imported() -> None:
        write_rows(rows_of(ChatOptions(), path, Counter()), folder / "imported.jsonl")

    return {
        "validate": per_second(rows, lambda: storing.checked(path, ReadOptions(), LIMITS)),
        "import": per_second(rows, imported),
        "upload": per_second(rows, lambda: storing.stored(path, ReadOptions(), LIMITS, artifacts)),
    }


def through_the_door(path: Path, rows: int, folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    headers = {"authorization": f"Bearer {KEY}"}
    with (
        running_api(folder / "data", METEOR_API_UPLOAD_BYTES=str(1 << 32), METEOR_API_MAX_ROWS=str(rows)) as api,
        httpx.Client(base_url=api.url, headers=headers, trust_env=False, timeout=3600) as http,
    ):
        pid = api.process.pid

        def uploaded(content: Any) -> dict[str, Any]:
            answer = http.post("/v1/files", files={"file": ("rows.jsonl", content)}, data={"purpose": "fine-tune"})
            answer.raise_for_status()
            return answer.json()

        small = uploaded(b"".join(b'{"question": "What is %d?", "reference": "%d"}\n' % (n, n) for n in range(100)))
        body = {"model": BASE, "training_file": small["id"], "distillation": {"domain": "d"}}
        http.post("/v1/distillation/jobs/check", json=body).raise_for_status()
        figures["before_mb"] = round(psutil.Process(pid).memory_info().rss / 1e6, 1)
        with path.open("rb") as content, watched(api.url, pid, figures, "upload"):
            file = uploaded(content)
        figures["rows"], figures["linked"], figures["left"] = (
            file["n_rows"],
            file["reading"]["linked"],
            file["reading"]["left"],
        )
        body["training_file"] = file["id"]
        with watched(api.url, pid, figures, "check"):
            http.post("/v1/distillation/jobs/check", json=body).raise_for_status()
        with watched(api.url, pid, figures, "post"):
            answer = http.post("/v1/distillation/jobs", json=body)
            answer.raise_for_status()
        job = answer.json()["id"]
        with watched(api.url, pid, figures, "page"):
            page = http.get(f"/v1/distillation/jobs/{job}/examples", params={"after": f"row-{rows // 2}", "limit": 20})
            assert len(page.raise_for_status().json()["data"]) == 20
        with watched(api.url, pid, figures, "preview"):
            http.post(f"/v1/files/{file['id']}/preview", json={}).raise_for_status()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--data", type=Path, help="an empty folder on a disk with room for five times the file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.data) as place:
        folder = Path(place)
        path = folder / "rows.jsonl"
        write_file(path, given.rows)
        speeds = throughput(path, given.rows, folder)
        figures = through_the_door(path, given.rows, folder)
    for name, speed in speeds.items():
        print(f"{name:10} {speed:>9} rows a second of processor time")
    for name, figure in figures.items():
        print(f"{name:10} {figure}")
    print(json.dumps({"throughput": speeds, **figures}))


if __name__ == "__main__":
    main()
