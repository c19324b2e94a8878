"""Sends jobs' metrics to W&B, MLflow or trackio, part by part, beside the jobs: a fault here never reaches a job.

The libraries run in a child process with an environment of its own, which has their variables and none of our secrets.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.artifacts.store import ArtifactMissing, Artifacts
from shared.contracts.integrations import IntegrationType, run_of
from shared.contracts.jobs import JobRequest
from shared.contracts.json_types import Json
from shared.contracts.steps import Queue, StepResult
from shared.jobs.records import EventRecord, IntegrationRecord, JobRecord
from shared.jobs.schema import Stores
from shared.jobs.states import FINAL_JOBS, StepState
from shared.platform.log import get_logger
from shared.platform.settings import PlatformSettings

log = get_logger(__name__)
CHILD = Path(__file__).with_name("integration_child.py")
EVERY_S = 5.0  # between two parts of a job
SEND_S = 120.0  # for one part
AT_ONCE = 4
MOST_EVENTS = 500  # of one part
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
             "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")  # fmt: skip
TELLING = frozenset({"metrics", "progress"})  # types of events


def send_due(stores: Stores, artifacts: Artifacts, settings: PlatformSettings) -> None:
    """Send what is due, one after the other."""
    for row in stores.integrations.due(hold_s=2 * SEND_S, limit=AT_ONCE):
        job = stores.jobs.get(row.job_id)
        if job is None:
            continue
        try:
            _send(stores, artifacts, settings, row, job)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            _failed(stores, row, job, error)


def _send(
    stores: Stores, artifacts: Artifacts, settings: PlatformSettings, row: IntegrationRecord, job: JobRecord
) -> None:
    told = stores.integrations.events_after(row.job_id, row.sequence, MOST_EVENTS)
    ended = job.status in FINAL_JOBS and len(told) < MOST_EVENTS
    points = [point for event in told if (point := _point(event))["metrics"]]
    sequence = told[-1].sequence if told else row.sequence
    if not points and not ended:
        return stores.integrations.later(row, EVERY_S)
    part = _about(row, job) | {"points": points, "sequence": sequence, "status": job.status.value if ended else None}
    part |= {"curves": _curves(stores, artifacts, job) if ended else {}, "summary": {}}
    if ended:
        part["summary"] = dict(numbers({"evaluation": job.evaluation, "trained_tokens": job.trained_tokens}))
    run_child(settings, row.type, part)
    stores.integrations.sent(row, sequence, ended, EVERY_S)


def _about(row: IntegrationRecord, job: JobRecord) -> Json:
    request = JobRequest.model_validate(job.request)
    (mine,) = [one for one in request.integrations or () if one.type == row.type]
    params = {"model": request.model, "suffix": request.suffix, "seed": request.seed, "file": request.training_file}
    chosen = request.distillation.model_dump(mode="json", exclude_defaults=True)
    params |= {name: value for name, value in chosen.items() if isinstance(value, bool | int | float)}
    return run_of(mine) | {"type": row.type, "id": job.id, "params": params, "at": job.finished_at or job.created_at}


def _point(event: EventRecord) -> Json:
    data = event.data if event.type in TELLING else None
    return {"sequence": event.sequence, "at": event.created_at, "metrics": dict(numbers(data or {}))}


def numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a JSON value by their paths. Texts are left out: they may be a user's."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from numbers(inner, f"{name}/{key}" if name else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from numbers(inner, f"{name}/{number}")


def _curves(stores: Stores, artifacts: Artifacts, job: JobRecord) -> dict[str, list[list[float]]]:
    """The losses of the job's trainings, by the step's key."""
    made: dict[str, list[list[float]]] = {}
    for step in stores.steps.of_job(job.id):
        if step.kind.queue is not Queue.TRAIN or step.state != StepState.SUCCEEDED or step.result_ref is None:
            continue
        try:
            result = StepResult.model_validate(artifacts.get_json(step.result_ref))
        except ArtifactMissing:
            continue
        if result.curve:
            made[f"training/{step.key}/loss"] = [[point.step, point.loss] for point in result.curve]
    return made


def run_child(settings: PlatformSettings, kind: str, part: Json) -> None:
    """Raises ValueError where the library fails; the log has its last words."""
    python = settings.integrations_python or sys.executable
    folder = settings.data / "integrations"
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [python, str(CHILD)],
        input=json.dumps(part),
        capture_output=True,
        text=True,
        timeout=SEND_S,
        env=environment_for(kind),
        cwd=folder,
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        log.warning("integration failed", type=kind, error="\n".join(lines[-5:])[-1000:])
        missing = any(line.startswith("ModuleNotFoundError") for line in lines)
        raise ValueError("its library is not installed" if missing else "its library failed")


def environment_for(kind: str) -> dict[str, str]:
    """What the library of this type may read: its own variables, and what every program needs."""
    own = f"{IntegrationType(kind).name}_"
    return {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith(own)}


def _failed(stores: Stores, row: IntegrationRecord, job: JobRecord, error: Exception) -> None:
    last = stores.integrations.failed(row)
    if row.failures and not last:
        return  # it was told with the first failure
    reason = str(error) if isinstance(error, ValueError) else type(error).__name__
    then = "it is not tried again" if last else "it is tried again for a day; the job goes on"
    message = f"the metrics were not sent to {row.type}: {reason}; {then}"
    stores.jobs.add_event(job, message, level="warn", data={"integration": row.type})
