"""What open event streams cost: `python -m tests.bench.streams`.

One API process on SQLite, 500 readers of one job in another process, an event each 100 ms. With --apis 2 two processes on one
database, each with half of the readers; each reading process holds at most 5,000. An event says when its writing began,
so what counts is the time until a reader has it: its transaction, the wait for the next look into the store
(METEOR_API_EVENTS_POLL_S), and 500 deliveries. Prints a table and one line of JSON. Exit code 1 where a reader missed an event.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from shared.jobs.schema import open_stores
from tests.conftest import job_of_default_project
from tests.contract.conftest import KEY, running_api
from tests.fakes.ports import free_port

AT_MOST = 5000  # streams of one reading process
SENT = b'"data":{"sent":'


async def read(url: str, job_id: str, begun: asyncio.Semaphore, latencies: list[float]) -> int:
    """How many events one stream brought before its end."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
    request = (
        f"GET /v1/distillation/jobs/{job_id}/events HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {KEY}\r\n"
        "accept: text/event-stream\r\n\r\n"
    )
    writer.write(request.encode())
    count = 0
    while line := await reader.readline():
        now = time.time()
        if line.startswith(b"id:") and not count:  # what was told before: this stream follows now
            begun.release()
        if line.startswith(b"event: done"):
            break
        if SENT in line:
            count += 1
            latencies.append(now - float(line.partition(SENT)[2].partition(b"}")[0]))
    writer.close()
    return count


async def read_all(url: str, job_id: str, streams: int) -> None:
    """The readers' process: says `ready` when all streams are open, and at the end what they saw."""
    begun, latencies = asyncio.Semaphore(0), list[float]()
    readers = [asyncio.create_task(read(url, job_id, begun, latencies)) for _ in range(streams)]
    for _ in range(streams):
        await begun.acquire()
    print("ready", flush=True)
    counts = await asyncio.gather(*readers)
    print(json.dumps({"fewest": min(counts), "latencies_ms": [1000 * seconds for seconds in sorted(latencies)]}))


def started(url: str, job_id: str, streams: int) -> list[subprocess.Popen[str]]:
    """Reading processes, all their streams open."""
    argv = [sys.executable, "-m", "tests.bench.streams", "--read", url, job_id, "--streams"]
    parts = [min(AT_MOST, streams - before) for before in range(0, streams, AT_MOST)]
    readers = [subprocess.Popen([*argv, str(part)], stdout=subprocess.PIPE, text=True) for part in parts]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    return readers


def measure(streams: int, seconds: float, interval_s: float, apis: int) -> dict[str, float]:
    broker = f"redis://127.0.0.1:{free_port()}/0"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meteor-bench-")))
        changes = {"REDIS_URL": broker, "METEOR_API_EVENTS_POLL_S": "0.25", "METEOR_API_EVENTS_STREAMS": str(streams)}
        running = [stack.enter_context(running_api(folder, **changes)) for _ in range(apis)]
        stores = open_stores(running[0].platform.database)
        job, servers = job_of_default_project(stores), [psutil.Process(api.process.pid) for api in running]
        idle = max(server.memory_info().rss for server in servers)
        share = streams // apis
        readers = [reader for api in running for reader in started(api.url, job.id, share)]

        def used() -> float:
            return sum(sum(server.cpu_times()[:2]) for server in servers)

        cpu, begun, written = used(), time.monotonic(), 0
        while (left := begun + written * interval_s - time.monotonic()) or True:
            time.sleep(max(0.0, left))
            if time.monotonic() - begun >= seconds:
                break
            stores.jobs.add_event(job, "step", type="metrics", data={"sent": time.time()})
            written += 1
        took, cpu = time.monotonic() - begun, used() - cpu
        stores.jobs.cancel(job)
        seen = [json.loads(reader.communicate(timeout=300)[0]) for reader in readers]
        latencies = sorted(latency for part in seen for latency in part["latencies_ms"])
        return {
            "apis": apis,
            "streams": share * apis,
            "events": written,
            "fewest_events_of_a_stream": min(part["fewest"] for part in seen),
            "latency_p50_ms": latencies[len(latencies) // 2],
            "latency_p99_ms": latencies[int(0.99 * len(latencies))],
            "deliveries_per_s": len(latencies) / took,
            "api_cpu_s_per_s": cpu / took,
            "api_memory_mb": max(server.memory_info().rss for server in servers) / 1e6,
            "api_memory_without_streams_mb": idle / 1e6,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--apis", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--interval", type=float, default=0.1, help="seconds between two events")
    parser.add_argument(
        "--read", nargs=2, metavar=("URL", "JOB"), help="be the readers of a job (used by the bench itself)"
    )
    given = parser.parse_args()
    if given.read:
        url, job_id = given.read
        asyncio.run(read_all(url, job_id, given.streams))
        return 0
    figures = measure(given.streams, given.seconds, given.interval, given.apis)
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):34} {round(value, 2):>10}")
    print(json.dumps(figures))
    return 0 if figures["fewest_events_of_a_stream"] == figures["events"] else 1


if __name__ == "__main__":
    sys.exit(main())
