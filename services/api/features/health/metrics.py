"""The gauges of /metrics that are counted in the database."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from services.api.context import ApiContext
from shared.contracts.jobs import JobStatus
from shared.platform.log import get_logger

log = get_logger(__name__)


class StoreCollector(Collector):
    """Jobs by status and steps by queue and state, counted at each scrape."""

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
        except SQLAlchemyError as error:  # the other metrics matter most while the database is unavailable
            log.warning("jobs not counted", error=repr(error))
            up.add_metric([], 0)
        yield from (jobs, steps, up)

    def describe(self) -> list[Metric]:
        """Empty, so that registering runs no query."""
        return []
