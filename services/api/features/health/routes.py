"""/healthz and /readyz, and the gauges behind /metrics."""

import asyncio
from collections.abc import Iterator

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from services.api.context import ApiContext
from services.api.deps import Context, Engine
from services.api.features.health import service as health
from shared.contracts.errors import ErrorBody
from shared.contracts.jobs import JobStatus
from shared.contracts.views import Alive, Readiness
from shared.platform.log import get_logger

log = get_logger(__name__)
router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> Alive:
    """The process lives and its event loop turns."""
    return Alive()


@router.get(
    "/readyz", response_model=Readiness, responses={503: {"model": Readiness, "description": "Parts are missing."}}
)
async def readyz(context: Context, engine: Engine) -> JSONResponse:
    """200 when all parts are there; else 503 with their names."""
    checks, state, lost = await asyncio.gather(health.readiness(context, engine), engine.status(), health.lost(context))
    missing = [part for part, there in checks.items() if not there]
    body = {"status": "not_ready" if missing else "ready", "missing": missing, "checks": checks, "lost": lost}
    if state is not None:
        body["engine"] = state.model_dump(mode="json")
    if not missing:
        return JSONResponse(body)
    error = ErrorBody(message=f"not ready: {', '.join(missing)}", type="server_error", code="not_ready")
    return JSONResponse(body | {"error": error.model_dump()}, status_code=503, headers={"retry-after": "2"})


class StoreCollector(Collector):
    """Jobs by status and steps by queue and state, counted when they are asked for."""

    def __init__(self, context: ApiContext):
        self.context = context

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("meteor_jobs", "Jobs by status", labels=["status"])
        steps = GaugeMetricFamily("meteor_steps", "Steps by queue and state", labels=["queue", "state"])
        up = GaugeMetricFamily("meteor_database_up", "1 when the job database answers")
        try:
            by_status = self.context.stores.overview.count_by_status()
            for status in JobStatus:
                jobs.add_metric([status.value], by_status.get(status.value, 0))
            for (queue, state), n in self.context.stores.overview.count_steps().items():
                steps.add_metric([queue, state], n)
            up.add_metric([], 1)
        except SQLAlchemyError as error:  # the other metrics are wanted most when the database is away
            log.warning("jobs not counted", error=repr(error))
            up.add_metric([], 0)
        yield from (jobs, steps, up)

    def describe(self) -> list[Metric]:
        """Empty, so that registering does not ask the database."""
        return []
