"""Datasets, imports, versions, calls and processes, as users and workers leave them, so that every view has something to show."""

import json
import time
from typing import Any

import httpx

from shared.contracts.steps import Method, ModelRef, Queue
from shared.db.engine import writing
from shared.jobs.heartbeat import Heartbeat
from shared.jobs.tables import DEFAULT_PROJECT, workers
from shared.ledger.accounts import Amount
from shared.ledger.store import CallOrigin, Cost, open_ledger
from tests.browser.hostile import HOSTILE
from tests.contract.conftest import BASE, RunningApi

MINUTE, HOUR = 60.0, 3600.0
TOPICS = ("files", "processes", "text", "network")
TASKS = (
    "List all {} of today",
    "Count the {} of the user anna",
    "Find {} larger than one megabyte",
    "Wie zeige ich {} an",
)


def _questions(number: int) -> bytes:
    lines = []
    for n in range(number):
        topic, task = TOPICS[n % len(TOPICS)], TASKS[n % 7 % len(TASKS)]
        row = {"question": f"{task.format(topic)}, case {n}?", "category": topic}
        lines.append(json.dumps(row | ({"reference": f"grep -c case-{n} {topic}.txt"} if n % 5 else {})))
    return "\n".join([*lines, json.dumps({"question": HOSTILE, "reference": HOSTILE, "category": "text"})]).encode()


def _sent(http: httpx.Client, name: str, content: bytes, purpose: str = "fine-tune") -> str:
    answer = http.post("/v1/files", files={"file": (name, content)}, data={"purpose": purpose})
    return answer.raise_for_status().json()["id"]


def _datasets(http: httpx.Client) -> dict[str, str]:
    first = _sent(http, "shell-questions.jsonl", _questions(160))
    rows = http.get(f"/v1/files/{first}/rows", params={"limit": 5}).raise_for_status().json()["data"]
    change: dict[str, Any] = {
        "edit": [{"id": rows[0]["id"], "reference": "find . -newermt today", "category": None}],
        "remove": [rows[1]["id"]],
        "append": [{"question": "How do I follow a log file?", "reference": "tail -f server.log", "category": "text"}],
    }
    second = http.post(f"/v1/files/{first}/versions", json=change).raise_for_status().json()["id"]
    bad = b'{"question": "What is missing?"}\n{"question": 7}\nno JSON at all\n{"answer": "4"}\n'
    made = {"dataset": second, "first_version": first, "bad_file": _sent(http, "tickets.jsonl", bad)}
    return made | {"raw_file": _sent(http, "manual.md", b"# Manual\n\nPress the button.\n" * 50, "user_data")}


def _imports(http: httpx.Client) -> None:
    hub = {"type": "hub", "dataset": "example/questions", "split": "train", "skip_bad": True}
    http.post("/v1/imports", json={"source": hub}).raise_for_status()
    stopped = http.post("/v1/imports", json={"source": hub | {"dataset": "example/answers"}}).raise_for_status().json()
    http.post(f"/v1/imports/{stopped['id']}/cancel").raise_for_status()


def _versions(api: RunningApi, http: httpx.Client, job: str) -> None:
    """Two more versions of the alias that the finished job has made, one of them tried as a canary."""
    ref = ModelRef(base=BASE, base_hash="b" * 64)
    for number, state in ((7, "rejected"), (8, "undecided")):
        trained = ref.trained(Method.LORA, f"{number:02d}" * 32)
        api.stores.catalog.publish(DEFAULT_PROJECT, "shell", trained, job, state, continues="shell@1")
    http.post("/v1/models/shell/canary", json={"version": 3, "percent": 10}).raise_for_status()


def _recipes(http: httpx.Client) -> None:
    """Of stored chats, of which there are none yet."""
    job = {"model": BASE, "suffix": "shell", "distillation": {"domain": "the Linux command line"}}
    source = {"type": "completions", "model": BASE, "feedback": ["down", "corrected"], "mask": True}
    body = {"name": "shell from use", "job": job, "source": source, "trigger": {"rows": 500}, "budget": {"max_usd": 5}}
    http.post("/v1/recipes", json=body).raise_for_status()


def _calls(api: RunningApi, jobs: dict[str, str]) -> None:
    """On the ledger, for the jobs and for nothing, good and failed."""
    ledger = open_ledger(api.platform.ledger_database)
    number = 0
    for job, usd in ((jobs["finished"], 0.011), (jobs["running"], 0.007), (jobs["failed"], 0.004)):
        for phase, calls in (("pilot", 2), ("distill", 8), ("iterate", 4)):
            for _ in range(calls):
                number += 1
                origin = CallOrigin(DEFAULT_PROJECT, job, phase=phase)
                call = ledger.begin(origin, "default", "strong-model", f"{number:064d}", Amount(usd, 900))
                ledger.settle(call, "ok", Cost(620, 210, usd), latency_ms=1400.0 + 10 * number)
    for outcome, error in (
        ("http_429", "Rate limit reached for requests"),
        ("timeout", f"no answer in 60 s {HOSTILE}"),
    ):
        number += 1
        call = ledger.begin(CallOrigin(DEFAULT_PROJECT), "spare", "other-model", f"{number:064d}")
        ledger.settle(call, outcome, Cost(), error=error)
    cached = CallOrigin(DEFAULT_PROJECT, jobs["running"], phase="distill")
    ledger.note_cached(cached, "default", "strong-model", "7" * 64, saved_usd=0.02)


def _processes(api: RunningApi) -> None:
    """Those of one machine, of which one went without a word."""
    for service, queue, slots in (
        ("orchestrator", None, 4), ("weak_model", Queue.WEAK, 2), ("strong_model", Queue.STRONG, 4), ("judge", Queue.JUDGE, 4),
        ("trainer", Queue.TRAIN, 1),
    ):  # fmt: skip
        name = f"{service}@workshop:41{slots}"
        Heartbeat(lambda: api.stores, name, service, queue, slots).beat()
        _seen(api, name, -2 * MINUTE if service == "trainer" else HOUR)


def _seen(api: RunningApi, worker: str, from_now: float) -> None:
    """A heartbeat of the future holds as long as the pages are looked at."""
    with writing(api.stores.jobs.engine) as connection:
        connection.execute(workers.update().where(workers.c.id == worker).values(seen_at=time.time() + from_now))


def more_of_everything(api: RunningApi, http: httpx.Client, jobs: dict[str, str]) -> dict[str, str]:
    """Ids by what they are, beside those of the jobs."""
    made = _datasets(http)
    _imports(http)
    _recipes(http)
    _versions(api, http, jobs["finished"])
    _calls(api, jobs)
    _processes(api)
    return made
