"""Creating, listing and reading jobs under concurrent writers: our API against MLflow's REST server, by the same client.

    python -m venv /tmp/mlflow && /tmp/mlflow/bin/pip install mlflow
    python -m tests.bench.versus_api --mlflow /tmp/mlflow/bin/python

Ours: fine-tuning jobs on a file of 40 rows, all checks included, with a key; no orchestrator runs, so each job stays queued. MLflow's:
runs of one experiment, `mlflow server` with its workers as shipped. Both store in SQLite, or with --postgres in one PostgreSQL server. Each
writer sends its requests one after the other on a connection that it keeps. create: new ones; list: the newest 20; get: one of those made;
mixed: each writer creates one, reads it and lists. `rate` is requests per second by the clock, `processor_ms` the
server's processor time per request, which other work on the machine disturbs less. `ratio` is ours over MLflow's rate
(goal: at least 2). Prints one line of JSON.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import httpx

from shared.platform import process_guard
from tests.bench.others import (
    NotInstalled,
    answers,
    clean_environment,
    or_skipped,
    processor_s,
    python_with,
    quantile,
    version_in,
)
from tests.contract.conftest import BASE, KEY, rows, running_api
from tests.fakes.gateway import TOKEN, running_gateway
from tests.fakes.ports import free_port, wait_until
from tests.fakes.postgres import fresh_database, running_postgres
from tests.fakes.start import ROOT
from tests.fakes.teacher import start_teacher

ROWS, PAGE = 40, 20
GOAL = 2.0
IDLE = 0.05  # seconds of processor time in a second: health checks and heartbeats


class Call(NamedTuple):
    method: str
    path: str
    body: object = None


class Server(NamedTuple):
    """id_of: of the object that a creation answered with. listed: how many objects a page has."""

    url: str
    pid: int
    headers: dict[str, str]
    create: Callable[[int], Call]
    page: Call
    get: Callable[[str], Call]
    id_of: Callable[[dict], str]
    listed: Callable[[dict], int]


class Refused(Exception):
    """The server answered with an error."""


class Timing(NamedTuple):
    """Of the requests that were answered; refused: how many ended in an error."""

    rate: float
    p50_ms: float
    p99_ms: float
    processor_ms: float
    refused: int


class Client:
    """As many writers as connections; each answer is read and looked at.

    Raises Refused for an error, RuntimeError for an answer that is not what was asked for.
    """

    def __init__(self, server: Server, http: aiohttp.ClientSession):
        self.server, self.http = server, http
        self.made: list[str] = []

    async def create(self, number: int) -> None:
        self.made.append(self.server.id_of(await self._answer(self.server.create(number))))

    async def get(self, number: int) -> None:
        wanted = self.made[number % len(self.made)]
        answer = await self._answer(self.server.get(wanted))
        if self.server.id_of(answer) != wanted:
            raise RuntimeError(f"asked for {wanted}: {answer}")

    async def page(self, _: int) -> None:
        answer = await self._answer(self.server.page)
        if self.server.listed(answer) != min(PAGE, len(self.made)):
            raise RuntimeError(f"a page of {self.server.listed(answer)} objects, {len(self.made)} exist")

    async def _answer(self, call: Call) -> dict:
        async with self.http.request(call.method, f"{self.server.url}{call.path}", json=call.body) as answer:
            content = await answer.read()
            if answer.status >= 300:
                raise Refused(f"{call.method} {call.path}: {answer.status} {content[:500]!r}")
            return json.loads(content)


Send = Callable[[int], Coroutine[None, None, None]]


async def timed(server: Server, steps: Sequence[Send], requests: int, writers: int) -> Timing:
    """So many requests over all writers; each takes the steps in turn."""
    seconds, refused = list[float](), list[Refused]()
    numbers = iter(range(requests))

    async def writer() -> None:
        for number in numbers:
            for step in steps:
                began = time.perf_counter()
                try:
                    await step(number)
                except Refused as error:
                    refused.append(error)
                else:
                    seconds.append(time.perf_counter() - began)

    cpu, began = processor_s(server.pid), time.perf_counter()
    await asyncio.gather(*(writer() for _ in range(writers)))
    took = time.perf_counter() - began
    if refused:
        sys.stderr.write(
            f"{len(refused)} of {len(refused) + len(seconds)} requests were refused; the first: {refused[0]}\n"
        )
    return Timing(
        round(len(seconds) / took, 1),
        round(1000 * quantile(seconds, 0.5), 1),
        round(1000 * quantile(seconds, 0.99), 1),
        round(1000 * (processor_s(server.pid) - cpu) / len(seconds), 2),
        len(refused),
    )


async def settled(server: Server) -> None:
    """Returns when the server does nothing: its first worker may answer while others still start."""
    before = -1.0
    while (now := processor_s(server.pid)) - before > IDLE:
        before = now
        await asyncio.sleep(1.0)


async def measure(server: Server, requests: int, writers: int) -> dict[str, Timing]:
    await settled(server)
    async with _http(server, writers) as http:
        client = Client(server, http)
        for step in (client.create, client.page, client.get):  # warms each worker up; does not count
            await timed(server, [step], 2 * writers, writers)
        timings = {
            name: await timed(server, [step], requests, writers)
            for name, step in (("create", client.create), ("list", client.page), ("get", client.get))
        }
        return timings | {
            "mixed": await timed(server, [client.create, client.get, client.page], requests // 3, writers)
        }


@contextlib.asynccontextmanager
async def _http(server: Server, writers: int) -> AsyncGenerator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=120)
    connector = aiohttp.TCPConnector(limit=writers)
    async with aiohttp.ClientSession(connector=connector, headers=server.headers, timeout=timeout) as http:
        yield http


@contextmanager
def ours(folder: Path, database: str | None) -> Generator[Server]:
    headers = {"authorization": f"Bearer {KEY}"}
    with start_teacher() as teacher, running_gateway(teacher, folder) as gateway:
        changes = {"METEOR_LOG_LEVEL": "WARNING", "METEOR_INTERNAL_TOKEN": TOKEN, "METEOR_API_GATEWAY_URL": gateway.url}
        yield from _api(folder, headers, changes | ({"DATABASE_URL": database} if database else {}))


def _api(folder: Path, headers: dict[str, str], changes: dict[str, str]) -> Iterator[Server]:
    with running_api(folder, **changes) as api:
        upload = {"file": ("rows.jsonl", rows(ROWS))}
        with httpx.Client(base_url=api.url, headers=headers, timeout=60, trust_env=False) as http:
            answer = http.post("/v1/files", data={"purpose": "fine-tune"}, files=upload).raise_for_status()
        path, body = "/v1/fine_tuning/jobs", {"model": BASE, "training_file": answer.json()["id"]}
        yield Server(
            url=api.url,
            pid=api.process.pid,
            headers=headers,
            create=lambda number: Call("POST", path, body | {"suffix": "bench", "metadata": {"number": str(number)}}),
            page=Call("GET", f"{path}?limit={PAGE}"),
            get=lambda made: Call("GET", f"{path}/{made}"),
            id_of=lambda answer: answer["id"],
            listed=lambda answer: len(answer["data"]),
        )


@contextmanager
def mlflow(python: Path, folder: Path, database: str | None) -> Generator[Server]:
    port = free_port()
    url, api = f"http://127.0.0.1:{port}", "/api/2.0/mlflow"
    store = database or f"sqlite:///{folder / 'mlflow.sqlite3'}"
    argv = [str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts")]
    environment = clean_environment(
        MLFLOW_DISABLE_TELEMETRY="true", PATH=f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    )
    server = subprocess.Popen(
        process_guard.command(argv), env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=sys.stderr
    )
    try:
        wait_until(lambda: server.poll() is not None or answers(f"{url}/health"), 600, "MLflow")
        if server.poll() is not None:
            raise NotInstalled(f"`mlflow server` ended with {server.returncode}; its reason is above")
        created = httpx.post(f"{url}{api}/experiments/create", json={"name": "bench"}, timeout=60, trust_env=False)
        experiment = created.raise_for_status().json()["experiment_id"]
        tags = [{"key": "model", "value": BASE}, {"key": "suffix", "value": "bench"}]
        yield Server(
            url=url,
            pid=server.pid,
            headers={},
            create=lambda number: Call("POST", f"{api}/runs/create", {
                "experiment_id": experiment, "run_name": f"bench-{number}", "start_time": int(1000 * time.time()), "tags": tags,
            }),
            page=Call("POST", f"{api}/runs/search", {"experiment_ids": [experiment], "max_results": PAGE}),
            get=lambda made: Call("GET", f"{api}/runs/get?run_id={made}"),
            id_of=lambda answer: answer["run"]["info"]["run_id"],
            listed=lambda answer: len(answer["runs"]),
        )  # fmt: skip
    finally:
        server.terminate()
        server.wait(30)


@contextmanager
def databases(postgres: bool) -> Generator[Callable[[], str | None]]:
    """Makes the URL of an empty database; None for a SQLite file in the server's own folder."""
    if not postgres:
        yield lambda: None
        return
    with running_postgres() as url:
        yield lambda: fresh_database(url)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mlflow", type=Path, help="python of an environment with mlflow (and psycopg2-binary for --postgres)"
    )
    parser.add_argument("--requests", type=int, default=1500, help="of each kind")
    parser.add_argument("--writers", type=int, default=100)
    parser.add_argument("--postgres", action="store_true")
    given = parser.parse_args()

    def of_mlflow() -> dict[str, Timing]:
        python = python_with(given.mlflow, "mlflow", "--mlflow", "mlflow")
        with (
            tempfile.TemporaryDirectory(prefix="meteor-bench-") as folder,
            mlflow(python, Path(folder), fresh()) as server,
        ):
            return asyncio.run(measure(server, given.requests, given.writers))

    with databases(given.postgres) as fresh:
        with tempfile.TemporaryDirectory(prefix="meteor-bench-") as folder, ours(Path(folder), fresh()) as server:
            timings = asyncio.run(measure(server, given.requests, given.writers))
        others = or_skipped(of_mlflow)
    result: dict[str, Any] = {
        "benchmark": "jobs_versus_mlflow",
        "database": "postgresql" if given.postgres else "sqlite",
        "writers": given.writers,
        "requests": given.requests,
        "ours": {name: timing._asdict() for name, timing in timings.items()},
        "load": round(os.getloadavg()[0], 1),
    }
    if "skipped" in others:
        result["mlflow"] = others
    else:
        result |= {
            "mlflow": {name: timing._asdict() for name, timing in others.items()},
            "mlflow_version": version_in(given.mlflow, "mlflow"),
            "ratio": {name: round(timings[name].rate / others[name].rate, 2) for name in timings},
            "p99_ratio": {name: round(timings[name].p99_ms / others[name].p99_ms, 2) for name in timings},
            "processor_ratio": {
                name: round(timings[name].processor_ms / others[name].processor_ms, 2) for name in timings
            },
        }
        result["kept"] = all(ratio >= GOAL for ratio in result["ratio"].values()) and not any(
            timing.refused for timing in timings.values()
        )
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
