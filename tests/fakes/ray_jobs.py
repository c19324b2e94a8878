"""A Ray dashboard's Jobs API over real HTTP (docs.ray.io, "Ray Jobs REST API"): it remembers jobs and starts none; a test says what becomes of them."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.fakes.on_a_thread import on_a_thread

OVER = ("STOPPED", "SUCCEEDED", "FAILED")


@dataclass
class Job:
    body: dict[str, Any]
    status: str = "PENDING"
    message: str = "Job has not started yet."
    error_type: str | None = None
    logs: str = ""
    stops: int = 0

    def details(self) -> dict[str, Any]:
        """As Ray 2.60 answers."""
        told = {"type": "SUBMISSION", "submission_id": self.body["submission_id"], "job_id": None, "driver_info": None}
        told |= {"status": self.status, "message": self.message, "error_type": self.error_type}
        return told | {"entrypoint": self.body["entrypoint"], "metadata": None, "start_time": 1, "end_time": None}


@dataclass
class RayJobsServer:
    """token: that is asked for. broken: answers 500, as a dashboard that has lost its cluster. stays: a stopped job does not end.
    refuses: the status of the answer to each submission, and listed: jobs of others, as they are listed."""

    url: str = ""
    token: str = ""
    broken: bool = False
    stays: bool = False
    refuses: int = 0
    listed: list[dict[str, Any]] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)

    def routes(self) -> list[Route]:
        return [
            Route("/api/version", self._version),
            Route("/api/jobs/", self._list, methods=["GET"]),
            Route("/api/jobs/", self._submit, methods=["POST"]),
            Route("/api/jobs/{id}", self._get, methods=["GET"]),
            Route("/api/jobs/{id}/stop", self._stop, methods=["POST"]),
            Route("/api/jobs/{id}/logs", self._logs, methods=["GET"]),
        ]

    def _refusal(self, request: Request) -> Response | None:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return PlainTextResponse("Unauthorized: Missing authentication token", 401)
        return PlainTextResponse("Traceback (most recent call last)", 500) if self.broken else None

    async def _version(self, request: Request) -> Response:
        told = {"version": "4", "ray_version": "2.60.0", "ray_commit": "0", "session_name": "session_1"}
        return self._refusal(request) or JSONResponse(told)

    async def _list(self, request: Request) -> Response:
        by_hand = {"type": "DRIVER", "submission_id": None, "job_id": "01000000", "status": "RUNNING", "message": None}
        return self._refusal(request) or JSONResponse(
            [by_hand, *self.listed, *(job.details() for job in self.jobs.values())]
        )

    async def _submit(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        if self.refuses:
            return PlainTextResponse("Traceback\nValueError: entrypoint_num_gpus must be a number", self.refuses)
        body = await request.json()
        if body["submission_id"] in self.jobs:
            return PlainTextResponse(f"ValueError: Job with submission_id {body['submission_id']} already exists.", 500)
        self.jobs[body["submission_id"]] = Job(body)
        return JSONResponse({"job_id": body["submission_id"], "submission_id": body["submission_id"]})

    def _job(self, request: Request) -> Job | Response:
        if refusal := self._refusal(request):
            return refusal
        job = self.jobs.get(request.path_params["id"])
        return job or PlainTextResponse(f"Job {request.path_params['id']} does not exist", 404)

    async def _get(self, request: Request) -> Response:
        job = self._job(request)
        return job if isinstance(job, Response) else JSONResponse(job.details())

    async def _stop(self, request: Request) -> Response:
        job = self._job(request)
        if isinstance(job, Response):
            return job
        job.stops += 1
        stopped = job.status not in OVER
        if stopped and not self.stays:
            job.status, job.message = "STOPPED", "Job was intentionally stopped."
        return JSONResponse({"stopped": stopped})

    async def _logs(self, request: Request) -> Response:
        job = self._job(request)
        return job if isinstance(job, Response) else JSONResponse({"logs": job.logs})


@contextmanager
def ray_jobs() -> Generator[RayJobsServer]:
    server = RayJobsServer()
    with on_a_thread(Starlette(routes=server.routes())) as server.url:
        yield server
