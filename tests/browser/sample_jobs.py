"""Jobs in every state, as orchestrator and workers leave them in the stores, so that pages have something to show."""

import json
import time
from typing import Any

import httpx

from shared.artifacts.store import Artifacts
from shared.contracts.errors import ErrorBody
from shared.contracts.estimate import Estimate, Range, Spend
from shared.contracts.step_key import StepKey
from shared.contracts.steps import Method, ModelRef, StepKind
from shared.db.engine import writing
from shared.jobs.records import JobRecord
from shared.jobs.tables import DEFAULT_PROJECT, jobs, steps
from tests.browser.hostile import FILE_NAME, HOSTILE, MARKUP
from tests.browser.sample_report import sample_report
from tests.contract.conftest import BASE, RunningApi, rows

MINUTE = 60.0
DONE, NOW, LATER = "succeeded", "running", "queued"
# (key, kind, state, figures, share done)
STEPS: tuple[tuple[str, StepKind, str, dict[str, float], float], ...] = (
    ("pilot/guidelines/0", StepKind.GUIDE, DONE, {"tokens_per_second": 210.4}, 1),
    ("pilot/guided/0", StepKind.TEACH, DONE, {}, 1),
    ("distill/guidelines/0", StepKind.GUIDE, DONE, {"tokens_per_second": 214.0}, 1),
    ("distill/answers/0", StepKind.TEACH, DONE, {}, 1),
    ("distill/answers/1", StepKind.TEACH, DONE, {}, 1),
    ("distill/train", StepKind.SFT, DONE, {"loss": 0.74, "loss_first": 2.61, "tokens_per_second": 803.0, "steps": 42}, 1),
    ("evaluate/dev/distill/answers/0", StepKind.ANSWER, DONE, {"tokens_per_second": 190.0}, 1),
    ("iterate/1/try-1/answers/0", StepKind.ANSWER, DONE, {"tokens_per_second": 176.0}, 1),
    ("iterate/1/train", StepKind.SFT, DONE, {"loss": 0.66, "loss_first": 1.12, "tokens_per_second": 790.0, "steps": 18}, 1),
    ("iterate/2/try-1/answers/0", StepKind.ANSWER, DONE, {"tokens_per_second": 181.0}, 1),
    ("iterate/2/train", StepKind.SFT, NOW, {"loss": 0.83, "tokens_per_second": 795.5}, 0.4),
)  # fmt: skip
BEFORE_TRAINING = 5  # steps
TOLD = (
    ("info", "message", "job queued", None),
    ("info", "metrics", "pilot: 15 of 16 answers of the teacher can be used", None),
    ("info", "metrics", "distill: chrf on dev 0.281 -> 0.442, gain +0.161 [+0.098, +0.224]: promoted", {"phase": "distill", "decision": "promoted"}),
    ("info", "metrics", "iterate: round 1: 42 %, 54 %, 62 %", {"round": 1, "pass_rate": [0.417, 0.542, 0.625]}),
    ("warn", "message", "1 hint held the reference and was left out", None),
    ("info", "metrics", "iterate: round 2: 54 %, 71 %, 75 %", {"round": 2, "pass_rate": [0.542, 0.708, 0.75]}),
    ("error", "message", f"worker lost {HOSTILE}", None),
)  # fmt: skip


def set_job(api: RunningApi, job_id: str, **values: Any) -> None:
    """As the orchestrator would."""
    with writing(api.stores.jobs.engine) as connection:
        connection.execute(jobs.update().where(jobs.c.id == job_id).values(**values))


def job_of(api: RunningApi, job_id: str) -> JobRecord:
    job = api.stores.jobs.get(job_id)
    assert job is not None
    return job


def uploaded(http: httpx.Client) -> str:
    """300 sums behind a dozen hostile rows, of which each split gets some."""
    odd = [
        {"question": f"What is {n}? {HOSTILE}", "reference": f"{n} {HOSTILE}", "category": MARKUP} for n in range(12)
    ]
    content = b"".join(json.dumps(row).encode() + b"\n" for row in odd) + rows(300)
    sent: dict[str, Any] = {"files": {"file": (FILE_NAME, content)}, "data": {"purpose": "fine-tune"}}
    return http.post("/v1/files", **sent).raise_for_status().json()["id"]


def posted(http: httpx.Client, file: str, suffix: str, **distillation: Any) -> str:
    settings = {"domain": "the Linux command line", "budget": {"max_usd": 5}, "iterate": {"rounds": 3}} | distillation
    body = {"model": BASE, "training_file": file, "suffix": suffix, "distillation": settings}
    return http.post("/v1/distillation/jobs", json=body).raise_for_status().json()["id"]


def add_steps(api: RunningApi, job_id: str, over: bool = False, most: int = len(STEPS)) -> None:
    """over: all of them have ended. most: the first ones alone."""
    began = time.time() - len(STEPS) * MINUTE
    for n, (key, kind, state, figures, share) in enumerate(STEPS[:most]):
        step = api.stores.steps.create(
            job_of(api, job_id), StepKey.parse(key), kind, f"{n:02d}{job_id}"[-64:].ljust(64, "0")
        )
        progress = {"done": 100 * share, "total": 100.0, "metrics": figures}
        values: dict[str, Any] = {"state": state, "progress": progress, "attempt": 1, "created_at": began + n * MINUTE}
        values["started_at"] = began + n * MINUTE
        if over or state == DONE:
            values |= {"state": DONE, "metrics": figures, "finished_at": began + (n + 0.9) * MINUTE}
        with writing(api.stores.jobs.engine) as connection:
            connection.execute(steps.update().where(steps.c.id == step.id).values(**values))


def add_events(api: RunningApi, job_id: str) -> None:
    for level, kind, message, data in TOLD:
        api.stores.jobs.add_event(job_of(api, job_id), message, level=level, type=kind, data=data)


def pilot_estimate() -> dict[str, Any]:
    """As a pilot leaves it in the job."""
    spends = {
        phase: Spend(calls=Range(low=low, high=2 * low), usd=Range(low=low / 100, high=low / 50))
        for phase, low in (("pilot", 2), ("distill", 180), ("iterate", 240))
    }
    total = Spend(calls=Range(low=422, high=844), usd=Range(low=4.22, high=8.44))
    return Estimate(basis="pilot", phases=spends, total=total, prices={}, assumptions=[]).model_dump(mode="json")


def running(api: RunningApi, http: httpx.Client, file: str, suffix: str = "shell-next") -> str:
    job = posted(http, file, suffix)
    progress = {
        "percent": 57.2,
        "done": 572.0,
        "total": 1000.0,
        "eta_seconds": 750.0,
        "eta_low_seconds": 600.0,
        "eta_high_seconds": 1000.0,
    }
    add_steps(api, job)
    add_events(api, job)
    set_job(api, job, status="running", phase="iterate", progress=progress, started_at=time.time() - 11 * MINUTE, attempt=1,
            lease_owner="sample", lease_expires=time.time() + 86_400, estimate=pilot_estimate())  # fmt: skip
    return job


def finished(api: RunningApi, http: httpx.Client, file: str, suffix: str = "shell") -> str:
    job = posted(http, file, suffix)
    add_steps(api, job, over=True)
    add_events(api, job)
    ref = ModelRef(base=BASE, base_hash="b" * 64).trained(Method.LORA, "06" * 32)
    version = api.stores.catalog.publish(DEFAULT_PROJECT, suffix, ref, job, "promoted")
    api.stores.catalog.serve(DEFAULT_PROJECT, version)
    report = Artifacts(api.platform.artifacts).put_json(sample_report(job))
    evaluation = {"metric": "chrf", "before": 0.281, "after": 0.506, "delta": 0.225, "ci95": [0.17, 0.28], "n": 80}
    now = time.time()
    set_job(api, job, status="succeeded", phase=None, report_ref=report, evaluation=evaluation, fine_tuned_model=f"{suffix}@{version.version}",
            progress={"percent": 100.0, "done": 1000.0, "total": 1000.0}, status_reason="final model: promoted",
            started_at=now - 25 * MINUTE, created_at=now - 26 * MINUTE, finished_at=now - MINUTE)  # fmt: skip
    return job


def failed(api: RunningApi, http: httpx.Client, file: str, suffix: str = "tickets") -> str:
    job = posted(http, file, suffix)
    add_steps(api, job, most=BEFORE_TRAINING)
    error = ErrorBody(
        message=f"the provider refuses the key {HOSTILE}", type="invalid_request_error", code="provider_refused"
    )
    cause = error.model_dump(mode="json")
    failure = {
        "phase": "distill",
        "step": "distill/answers/1",
        "attempts": 3,
        "cause": cause,
        "usable": {"models": [], "phases": [], "steps_done": 4},
    }
    now = time.time()
    set_job(api, job, status="failed", phase="distill", error=cause, failure=failure, progress={"percent": 21.0, "done": 21.0, "total": 100.0},
            started_at=now - 40 * MINUTE, created_at=now - 41 * MINUTE, finished_at=now - 35 * MINUTE)  # fmt: skip
    return job


def paused(api: RunningApi, http: httpx.Client, file: str, suffix: str = "contracts") -> str:
    job = posted(http, file, suffix)
    add_steps(api, job, most=BEFORE_TRAINING)
    reason = "the budget of $5.00 does not hold the next call; raise it, or cancel"
    set_job(
        api,
        job,
        status="paused",
        phase="distill",
        status_reason=reason,
        progress={"percent": 34.0, "done": 34.0, "total": 100.0},
    )
    return job


def one_of_each(api: RunningApi, http: httpx.Client) -> dict[str, str]:
    """Ids by state. traced: a finished job whose steps have their files."""
    from tests.browser.sample_steps import traced  # it is made of the parts above

    file = uploaded(http)
    made = {
        "traced": traced(api, http, file),
        "failed": failed(api, http, file),
        "finished": finished(api, http, file),
        "paused": paused(api, http, file),
        "running": running(api, http, file),
    }
    cancelled = posted(http, file, "trial")
    http.post(f"/v1/distillation/jobs/{cancelled}/cancel").raise_for_status()
    return made | {"cancelled": cancelled, "queued": posted(http, file, "next-in-line"), "file": file}
