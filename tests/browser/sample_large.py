"""A job of 10,000 examples and 50,000 events that runs, written in few transactions."""

import json
import time

import httpx

from shared.contracts.data import Split
from shared.contracts.steps import StepKind, TeachParams
from shared.db.engine import writing
from shared.jobs.tables import events
from tests.browser.sample_jobs import job_of, posted, set_job
from tests.browser.sample_steps import DOMAIN, SAMPLING, STUDENTS, Row, Writer, asked, student, training
from tests.contract.conftest import RunningApi

EXAMPLES, EVENTS = 10_000, 50_000
BATCH = 50


def _rows() -> list[Row]:
    return [{"question": f"What is {n} plus {n + 1}?", "reference": str(2 * n + 1), "category": f"tens of {n // 10 % 10}"} for n in range(EXAMPLES)]  # fmt: skip


def large(api: RunningApi, http: httpx.Client) -> str:
    content = "\n".join(json.dumps(row) for row in _rows()).encode()
    sent = {"files": {"file": ("large.jsonl", content)}, "data": {"purpose": "fine-tune"}}
    file = http.post("/v1/files", **sent).raise_for_status().json()["id"]
    job = posted(http, file, "large", domain=DOMAIN)
    _add_steps(api, http, job)
    now = time.time()
    with writing(api.stores.jobs.engine) as connection:
        record = job_of(api, job)
        told = (
            {"project_id": record.project_id, "job_id": job, "level": "warn" if n % 500 == 0 else "info", "type": "message",
             "message": f"batch {n} of the teacher's answers is there", "created_at": now - EVENTS + n}
            for n in range(EVENTS)
        )  # fmt: skip
        connection.execute(events.insert(), list(told))
    progress = {"percent": 61.0, "done": 610.0, "total": 1000.0, "eta_seconds": 5000.0}
    set_job(api, job, status="running", phase="iterate", progress=progress, started_at=now - 9000, attempt=1, lease_owner="sample",
            lease_expires=now + 86_400)  # fmt: skip
    return job


def _split(http: httpx.Client, job: str, split: Split) -> list[Row]:
    """The rows of a split, by the API's own pages."""
    rows: list[Row] = []
    after: dict[str, str] = {}
    while True:
        page = http.get(f"/v1/distillation/jobs/{job}/examples", params={"split": split.value, "limit": 100} | after)
        rows += page.raise_for_status().json()["data"]
        if not page.json()["has_more"]:
            return rows
        after = {"after": rows[-1]["id"]}


def _add_steps(api: RunningApi, http: httpx.Client, job: str) -> None:
    """Phase 1 over every question of train, and the base and its student on every question of test."""
    write = Writer(api, job, time.time() - 9000)
    teach = TeachParams(teacher="strong", domain=DOMAIN, sampling=SAMPLING)
    train, test = _split(http, job, Split.TRAIN), _split(http, job, Split.TEST)
    for number, start in enumerate(range(0, len(train), BATCH)):
        rows = train[start : start + BATCH]
        answers = [
            {"id": row["id"], "answer": row["reference"], "finish_reason": "stop", "outcome": "ok"} for row in rows
        ]
        write.step(f"distill/answers/{number}", StepKind.TEACH, teach, [asked(row) for row in rows], answers)
    learned = [asked(row) | {"completion": row["reference"]} for row in train]
    write.step("distill/train", StepKind.SFT, training("base"), learned, adapter=STUDENTS["distill"].adapter)
    for name, wrong in (("base", 3), ("distill", 7)):
        for number, start in enumerate(range(0, len(test), BATCH)):
            rows = test[start : start + BATCH]
            made = [{"id": row["id"], "answer": row["reference"] if n % wrong else "0", "finish_reason": "stop"} for n, row in enumerate(rows)]  # fmt: skip
            write.step(f"evaluate/test/{name}/answers/{number}", StepKind.ANSWER, student(name), [asked(row) for row in rows], made)  # fmt: skip
