"""What the chat proxy costs: `python -m tests.bench.chat` and `python -m tests.bench.chat --engine URL`; with --beside also what other
proxies cost.

Without --engine: a fake engine streams at a fixed pace, and a client in a process of its own reads 32 streams, in turn from the
engine itself and through the API (with a key, and an alias whose engine name is replaced in every chunk). A chunk says when it was
sent, so what counts is how much longer it was under way: limits 2 ms at the median, 10 ms at the 99th percentile. The rows
`first` are for the whole way until a stream's first chunk; the streams begin one after the other within a second.

With --engine: a real vLLM (URL without /v1; METEOR_INTERNAL_TOKEN is its key) computes the same answers both ways, and tokens
per second are compared: limit 97 %. Prints a table and one line of JSON; exit code 1 where a limit is not kept.

--beside: the same streams, without --engine, through the least that a proxy can do (pass_through.py, uvicorn with httpx and with aiohttp)
and, with --router, through vllm-router on the same cores:

    python -m venv /tmp/router && /tmp/router/bin/pip install vllm-router==0.1.17
    python -m tests.bench.chat --beside --router /tmp/router/bin/vllm-router

`beside` has what each added, and its processor time per chunk and per stream; `ratio` is ours over theirs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import psutil

from shared.db.engine import reading, writing
from shared.db.fetch import fetch_one
from shared.jobs.records import ModelRecord
from shared.jobs.schema import open_stores
from shared.jobs.tables import DEFAULT_PROJECT, models
from shared.platform import process_guard
from tests.bench.others import NotInstalled, answers, or_skipped, processor_s, quantile
from tests.fakes.ports import free_port, wait_until
from tests.fakes.start import ROOT, running

ADAPTER, ALIAS, KEY = "a" * 64, "expert", "key-of-the-bench"
LIMIT_P50_MS, LIMIT_P99_MS, LIMIT_SHARE = 2.0, 10.0, 0.97


def run_client(**given) -> dict:
    """One round of a client process. Raises CalledProcessError with its words on stderr."""
    argv = [sys.executable, "-m", "tests.bench.chat_client"]
    ended = subprocess.run(argv, input=json.dumps(given), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ended.stdout)


def publish(data: Path) -> None:
    """An alias that is served, so that the proxy has a name to hide."""
    stores = open_stores(f"sqlite:///{(data / 'meteor.sqlite3').resolve()}")
    values = {
        "id": "model-bench",
        "project_id": DEFAULT_PROJECT,
        "alias": ALIAS,
        "version": 1,
        "adapter": ADAPTER,
        "base": "base",
        "base_hash": "b",
        "state": "promoted",
        "created_at": time.time(),
    }
    with writing(stores.jobs.engine) as connection:
        connection.execute(models.insert().values(**values))
    with reading(stores.jobs.engine) as connection:
        stores.catalog.serve(DEFAULT_PROJECT, fetch_one(connection, ModelRecord, models.select()))


@contextmanager
def running_api(engine_url: str, base: str) -> Generator[tuple[str, int]]:
    """(its address, the process's id): the API with a data folder of its own."""
    with tempfile.TemporaryDirectory(prefix="meteor-bench-") as folder:
        port = free_port()
        environment = {
            "METEOR_DATA": folder,
            "METEOR_API_PORT": str(port),
            "METEOR_API_KEYS": KEY,
            "METEOR_API_ENGINE_URL": engine_url,
            "METEOR_STUDENT_MODEL": base,
            "METEOR_LOG_LEVEL": "WARNING",
        }
        with running(["services.api"], f"http://127.0.0.1:{port}/healthz", environment) as guard:
            publish(Path(folder))
            yield f"http://127.0.0.1:{port}", psutil.Process(guard.pid).children()[0].pid


@contextmanager
def running_pass_through(engine: str, client: str) -> Generator[tuple[str, int]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = ["tests.bench.pass_through", "--port", str(port), "--engine", engine, "--client", client]
    with running(argv, f"{url}/health") as guard:
        yield url, guard.pid


@contextmanager
def running_router(engine: str, program: Path) -> Generator[tuple[str, int]]:
    port, metrics = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [str(program), "--worker-urls", engine, "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--prometheus-port", str(metrics), "--log-level", "warning"]
    with subprocess.Popen(process_guard.command(argv), stdin=subprocess.PIPE, stdout=sys.stderr, cwd=ROOT) as guard:
        try:
            wait_until(lambda: guard.poll() is not None or answers(f"{url}/health"), 60, "vllm-router")
            if guard.poll() is not None:
                raise NotInstalled(f"{program} ended with {guard.returncode}; its reason is above")
            yield url, guard.pid
        finally:
            guard.terminate()


def beside(streams: int, tokens: int, rounds: int, gap: float, router: Path | None) -> dict[str, dict]:
    """What each of the other proxies costs, one after the other."""
    result = {
        f"pass_through_{client}": latency(
            streams, tokens, rounds, gap, lambda engine, client=client: running_pass_through(engine, client), ADAPTER
        )
        for client in ("httpx", "aiohttp")
    }
    if router is None or not router.exists():
        remedy = (
            "pip install vllm-router==0.1.17 into an environment of its own, and give --router FOLDER/bin/vllm-router"
        )
        return result | {"vllm_router": {"skipped": f"vllm-router is not compared: {remedy}"}}
    routed = or_skipped(
        lambda: latency(streams, tokens, rounds, gap, lambda engine: running_router(engine, router), ADAPTER)
    )
    return result | {"vllm_router": routed}


def ratios(ours: dict, others: dict[str, dict]) -> dict[str, dict[str, float]]:
    """Ours over theirs: what the median of a first chunk and of a later one grew by, and processor time."""
    told: dict[str, dict[str, float]] = {}
    for name, theirs in others.items():
        if "skipped" in theirs:
            continue
        told[name] = {
            "first_added": round(ours["first_p50_ms"]["added"] / theirs["first_p50_ms"]["added"], 2),
            "chunk_added": round(ours["chunk_p50_ms"]["added"] / theirs["chunk_p50_ms"]["added"], 2),
            "cpu_per_stream": round(ours["cpu_ms_per_stream"] / theirs["cpu_ms_per_stream"], 2),
        }
    return told


Proxy = Callable[[str], AbstractContextManager[tuple[str, int]]]  # of an engine's address -> (its address, its process)


def latency(streams: int, tokens: int, rounds: int, gap: float, through: Proxy, model: str) -> dict:
    """model: the name that the proxy is asked for."""
    port = free_port()
    engine = f"http://127.0.0.1:{port}"
    argv = ["tests.fakes.paced", "--port", str(port), "--model", ADAPTER, "--gap", str(gap)]
    seen: dict[str, dict[str, list[float]]] = {way: {"first": [], "chunk": []} for way in ("direct", "proxy")}
    cpu_s = 0.0
    with running(argv, f"{engine}/health"), through(engine) as (api, pid):
        ways = {"direct": (engine, ADAPTER), "proxy": (api, model)}
        for number in range(-1, rounds):  # the first one warms up and does not count
            for way, (url, model) in ways.items():
                before = processor_s(pid)
                figures = run_client(url=url, model=model, key=KEY, streams=streams, tokens=tokens, spread_s=1.0)
                if number < 0:
                    continue
                cpu_s += processor_s(pid) - before if way == "proxy" else 0.0
                seen[way]["first"] += figures["first_ms"]
                seen[way]["chunk"] += figures["under_way_ms"]
    result: dict = {"streams": streams, "chunks": len(seen["proxy"]["chunk"]), "gap_ms": gap * 1000}
    for kind in ("first", "chunk"):
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            direct, proxy = (quantile(seen[way][kind], share) for way in ("direct", "proxy"))
            result[f"{kind}_{name}_ms"] = {
                "direct": round(direct, 2), "proxy": round(proxy, 2), "added": round(proxy - direct, 2),
            }  # fmt: skip
    result["cpu_us_per_chunk"] = round(cpu_s / result["chunks"] * 1e6, 1)
    result["cpu_ms_per_stream"] = round(cpu_s / (streams * rounds) * 1e3, 2)
    return result


def throughput(engine: str, streams: int, tokens: int, rounds: int) -> dict:
    token = os.environ.get("METEOR_INTERNAL_TOKEN", "")
    headers = {"authorization": f"Bearer {token}"}
    base = httpx.get(f"{engine}/v1/models", headers=headers).raise_for_status().json()["data"][0]["id"]
    rates: dict[str, list[float]] = {"direct": [], "proxy": []}
    more = {"temperature": 0, "ignore_eos": True}
    with running_api(engine, base) as (api, _):
        for number in range(-1, rounds):
            for way, url, key in (("direct", engine, token), ("proxy", api, KEY)):
                figures = run_client(url=url, model=base, key=key, streams=streams, tokens=tokens, more=more)
                if number >= 0:
                    rates[way].append(streams * tokens / figures["seconds"])
    direct, proxy = (statistics.median(rates[way]) for way in ("direct", "proxy"))
    return {
        "streams": streams,
        "tokens_per_second": {"direct": round(direct, 1), "proxy": round(proxy, 1)},
        "share": round(proxy / direct, 4),
        "rounds": {way: [round(rate, 1) for rate in figures] for way, figures in rates.items()},
        "kept": proxy / direct >= LIMIT_SHARE,
    }


def show(result: dict) -> None:
    print(f"{'':22}{'direct':>10}{'proxy':>10}{'added':>10}")
    for name, row in result.items():
        if isinstance(row, dict) and "proxy" in row and "rounds" not in name:
            print(f"{name:22}{row['direct']:>10}{row['proxy']:>10}{row.get('added', ''):>10}")
    print(json.dumps(result))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", help="a real vLLM, without /v1")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--gap", type=float, default=0.02, help="seconds between two tokens of the fake engine's streams"
    )
    parser.add_argument("--beside", action="store_true", help="measure other proxies too")
    parser.add_argument("--router", type=Path, help="vllm-router's program, for --beside")
    given = parser.parse_args()
    if given.engine:
        result = throughput(given.engine.rstrip("/"), given.streams, given.tokens, given.rounds)
    else:
        rounds = (given.streams, given.tokens, given.rounds, given.gap)
        result = latency(*rounds, lambda engine: running_api(engine, "base"), ALIAS)
        result["kept"] = (
            result["chunk_p50_ms"]["added"] <= LIMIT_P50_MS and result["chunk_p99_ms"]["added"] <= LIMIT_P99_MS
        )
        if given.beside:
            result["beside"] = beside(*rounds, given.router)
            result["ratio"] = ratios(result, result["beside"])
    show(result)
    return 0 if result["kept"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
