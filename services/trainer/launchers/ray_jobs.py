"""A Ray cluster by its Jobs API: plain HTTP, so the trainer needs no package `ray` (docs.ray.io, "Ray Jobs REST API")."""

import shlex
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from services.trainer.launchers.port import ClusterAway, State, Status, Submission
from services.trainer.settings import TrainerSettings
from shared.contracts.errors import FatalError
from shared.platform import ray_api
from shared.platform.http_client import internal_client

ANSWER_S = 30.0  # Ray answers a submission when a machine's agent has taken it
INVALID = (400, 422)  # the same submission would be refused again
NO_ROOM = ("JOB_SUPERVISOR_ACTOR_START_TIMEOUT", "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE")
T = TypeVar("T")
STATES = {
    "PENDING": State.WAITING,
    "RUNNING": State.RUNNING,
    "STOPPED": State.STOPPED,
    "SUCCEEDED": State.ENDED,
    "FAILED": State.ENDED,
}


class ListedJob(BaseModel):
    """A job of anybody. submission_id: None for a driver that somebody started by hand."""

    model_config = ConfigDict(extra="allow")

    submission_id: str | None = None


class JobDetails(BaseModel):
    """What is read of Ray's JobDetails. status: one that this version does not know counts as running."""

    status: str
    message: str | None = None
    error_type: str | None = None

    def as_status(self) -> Status:
        given_up = self.status == "FAILED" and self.error_type in NO_ROOM
        return Status(State.NO_ROOM if given_up else STATES.get(self.status, State.RUNNING), self.message or "")


class JobLogs(BaseModel):
    logs: str = ""


LISTED, DETAILS, LOGS = TypeAdapter(list[ListedJob]), TypeAdapter(JobDetails), TypeAdapter(JobLogs)


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
    async def open(self) -> AsyncGenerator["RayJobs"]:
        async with internal_client(self.address, self.token, timeout_s=ANSWER_S) as client:
            yield RayJobs(self.address, client, self.cpus)


class RayJobs:
    """cpus: that each job reserves."""

    def __init__(self, address: str, client: httpx.AsyncClient, cpus: float):
        self.address, self.client, self.cpus = address, client, cpus

    async def submitted(self, prefix: str) -> Mapping[str, Status]:
        answer = await self._ask("GET", "")
        jobs = self._parsed(LISTED, answer.content)
        ours = {job.submission_id: job for job in jobs if job.submission_id and job.submission_id.startswith(prefix)}
        return {run: self._parsed(DETAILS, job.model_dump_json()).as_status() for run, job in ours.items()}

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
            reason = (answer.text.strip().splitlines() or [""])[-1][:300]
            message = f"the Ray cluster at {self.address} took no job ({answer.status_code}): {reason}"
            if answer.status_code in INVALID:
                raise FatalError(message, code="ray_refused")
            raise ClusterAway(message)

    async def status(self, run: str) -> Status | None:
        answer = await self._send("GET", run)
        if answer.status_code == 404:
            return None
        self._refused(answer)
        return self._parsed(DETAILS, answer.content).as_status()

    async def stop(self, run: str) -> None:
        answer = await self._send("POST", f"{run}/stop", {})
        if answer.status_code != 404:
            self._refused(answer)

    async def log(self, run: str) -> str:
        return self._parsed(LOGS, (await self._ask("GET", f"{run}/logs")).content).logs

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

    def _parsed(self, kind: TypeAdapter[T], content: bytes | str) -> T:
        try:
            return kind.validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ClusterAway(
                f"the Jobs API at {self.address} sent an answer of another form: {where}: {first['msg']}"
            ) from None

    def _refused(self, answer: httpx.Response) -> None:
        """Raises ClusterAway: what an operator mends goes on without a loss."""
        if fault := ray_api.refusal(self.address, answer):
            raise ClusterAway(str(fault))
