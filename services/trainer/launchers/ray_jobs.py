"""A Ray cluster by its Jobs API: plain HTTP, so the trainer needs no package `ray` (docs.ray.io, "Ray Jobs REST API")."""

import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx
from pydantic import BaseModel, TypeAdapter

from services.trainer.launchers.port import ClusterAway, State, Status, Submission
from services.trainer.settings import TrainerSettings
from shared.contracts.errors import FatalError
from shared.platform import ray_api
from shared.platform.http_client import internal_client

ANSWER_S = 30.0  # Ray answers a submission when a machine's agent has taken it
NO_ROOM = ("JOB_SUPERVISOR_ACTOR_START_TIMEOUT", "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE")
STATES = {
    "PENDING": State.WAITING,
    "RUNNING": State.RUNNING,
    "STOPPED": State.STOPPED,
    "SUCCEEDED": State.ENDED,
    "FAILED": State.ENDED,
}


class JobDetails(BaseModel):
    """What is read of Ray's JobDetails. submission_id: None for a driver that somebody started by hand."""

    submission_id: str | None = None
    status: Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
    message: str | None = None
    error_type: str | None = None

    def as_status(self) -> Status:
        given_up = self.status == "FAILED" and self.error_type in NO_ROOM
        return Status(State.NO_ROOM if given_up else STATES[self.status], self.message or "")


class JobLogs(BaseModel):
    logs: str = ""


class RayCluster:
    """The clusters' factory for the settings of a trainer."""

    def __init__(self, settings: TrainerSettings):
        self.address, self.token = settings.ray_address, settings.ray_token.get_secret_value()
        self.cpus = settings.ray_cpus

    def check(self) -> None:
        if not self.address:
            raise FatalError(
                "METEOR_TRAINER_LAUNCHER is ray and METEOR_TRAINER_RAY_ADDRESS is not set; set it to http://HOST:8265",
                code="ray_unavailable",
            )
        told = ray_api.version(self.address, self.token)
        if isinstance(told, ray_api.Fault):
            raise FatalError(str(told), code="ray_unavailable")

    @asynccontextmanager
    async def open(self) -> AsyncIterator["RayJobs"]:
        async with internal_client(self.address, self.token, timeout_s=ANSWER_S) as client:
            yield RayJobs(self.address, client, self.cpus)


class RayJobs:
    """cpus: that each job reserves."""

    def __init__(self, address: str, client: httpx.AsyncClient, cpus: float):
        self.address, self.client, self.cpus = address, client, cpus

    async def submitted(self, prefix: str) -> Mapping[str, Status]:
        answer = await self._ask("GET", "")
        jobs = TypeAdapter(list[JobDetails]).validate_json(answer.content)
        return {
            job.submission_id: job.as_status()
            for job in jobs
            if job.submission_id is not None and job.submission_id.startswith(prefix)
        }

    async def submit(self, submission: Submission) -> None:
        body = {
            "submission_id": submission.id,
            "entrypoint": shlex.join(submission.command),
            "runtime_env": {"env_vars": dict(submission.environment)},
            "entrypoint_num_cpus": self.cpus,
            "entrypoint_num_gpus": submission.devices,
        }
        answer = await self._send("POST", "", body)
        if answer.is_success:
            return
        if await self.status(submission.id) is None:  # else another worker was first
            words = (answer.text.strip().splitlines() or [""])[-1][:300]
            raise ClusterAway(f"the Ray cluster at {self.address} took no job ({answer.status_code}): {words}")

    async def status(self, run: str) -> Status | None:
        answer = await self._send("GET", run)
        if answer.status_code == 404:
            return None
        self._refused(answer)
        return JobDetails.model_validate_json(answer.content).as_status()

    async def stop(self, run: str) -> None:
        answer = await self._send("POST", f"{run}/stop", {})
        if answer.status_code != 404:
            self._refused(answer)

    async def log(self, run: str) -> str:
        return JobLogs.model_validate_json((await self._ask("GET", f"{run}/logs")).content).logs

    async def _ask(self, method: str, path: str) -> httpx.Response:
        answer = await self._send(method, path)
        self._refused(answer)
        return answer

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        try:
            return await self.client.request(method, f"{ray_api.JOBS}{path}", json=body)
        except httpx.HTTPError as error:
            raise ClusterAway(
                f"the Ray cluster at {self.address} does not answer: {error or type(error).__name__}"
            ) from error

    def _refused(self, answer: httpx.Response) -> None:
        """Raises ClusterAway: what an operator mends goes on without a loss."""
        if fault := ray_api.refusal(self.address, answer):
            raise ClusterAway(str(fault))
