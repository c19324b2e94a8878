"""The metrics of /metrics that are counted in the databases and on the disk, for workers have no port."""

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from services.api.context import ApiContext
from services.api.features.health.service import LOST_FOR_S
from services.api.features.health.stored import StoredBytes
from shared.contracts.canary import Outcome
from shared.contracts.integrations import IntegrationType, Sent
from shared.contracts.jobs import JobKind, JobStatus
from shared.contracts.steps import Queue, StepKind
from shared.jobs.operations import CANARY_STATES, DELIVERY_STATES, SERVICES
from shared.jobs.states import FINAL_JOBS, StepState
from shared.jobs.tallies import AttemptOutcome, Tallies, Tally
from shared.ledger.budget_use import BudgetKind, budget_use
from shared.platform.log import get_logger

log = get_logger(__name__)


class StoreCollector(Collector):
    """Counted at each scrape. All values of all labels are always there, so that a rule sees the first change."""

    def __init__(self, context: ApiContext):
        self.context = context
        self._stored = StoredBytes(context.platform.data)

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("meteor_database_up", "1 when the job database answers")
        available = True
        for part in (self._waiting, self._ended, self._processes, self._budgets, self._outside):
            try:
                yield from list(part())
            except SQLAlchemyError as error:  # the other metrics matter most while the database is unavailable
                log.warning("not counted", part=part.__name__, error=repr(error))
                available = False
        up.add_metric([], float(available))
        yield up
        yield from self._stored.collect()

    def describe(self) -> list[Metric]:
        """Empty, so that registering runs no query."""
        return []

    def _waiting(self) -> Iterator[Metric]:
        overview, operations = self.context.stores.overview, self.context.stores.operations
        by_status, by_state = overview.count_by_status(), overview.count_steps()
        yield gauges("meteor_jobs", "Jobs by status", "status", JobStatus, lambda status: by_status.get(status, 0))
        steps = GaugeMetricFamily("meteor_steps", "Steps by queue and state", labels=["queue", "state"])
        for queue in Queue:
            for state in StepState:
                steps.add_metric([queue, state], by_state.get((queue, state), 0))
        yield steps
        oldest = operations.oldest_ready()
        told = "Age of the oldest step that could begin, in seconds"
        yield gauges("meteor_oldest_ready_step_seconds", told, "queue", Queue, lambda queue: oldest[Queue(queue)])
        told = "Age of the oldest job that waits to begin, in seconds"
        yield GaugeMetricFamily("meteor_oldest_queued_job_seconds", told, operations.oldest_queued_job())
        told = "Tokens per second of all trainings that run"
        yield GaugeMetricFamily("meteor_training_tokens_per_second", told, operations.training_speed())

    def _ended(self) -> Iterator[Metric]:
        tallies = self.context.stores.tallies.all()
        told = "Attempts at steps, by how they ended"
        attempts = CounterMetricFamily("meteor_step_attempts", told, labels=["kind", "outcome"])
        seconds = HistogramMetricFamily("meteor_step_seconds", "Seconds of attempts that succeeded", labels=["kind"])
        for kind in StepKind:
            for outcome in AttemptOutcome:
                attempts.add_metric([kind, outcome], tallies.n(Tally.STEP, kind, outcome))
            add_histogram(seconds, [kind], tallies, Tally.STEP, kind, AttemptOutcome.SUCCEEDED)
        ended = CounterMetricFamily("meteor_jobs_ended", "Jobs that ended", labels=["kind", "status"])
        job_seconds = HistogramMetricFamily(
            "meteor_job_seconds", "From the start of jobs that succeeded to their end", labels=["kind"]
        )
        for kind in JobKind:
            for status in sorted(FINAL_JOBS):
                ended.add_metric([kind, status], tallies.n(Tally.JOB, kind, status))
            add_histogram(job_seconds, [kind], tallies, Tally.JOB, kind, JobStatus.SUCCEEDED)
        told = "Mean error of the time left that a job told, as a share of its run time"
        eta = HistogramMetricFamily("meteor_job_eta_error_ratio", told, labels=[])
        add_histogram(eta, [], tallies, Tally.ETA_ERROR)
        decided = CounterMetricFamily("meteor_canary_decisions", "Canaries that decided", labels=["outcome"])
        for outcome in Outcome:
            decided.add_metric([outcome], tallies.n(Tally.CANARY, outcome))
        told = "Attempts to send a job's metrics to an integration"
        sent = CounterMetricFamily("meteor_integration_sends", told, labels=["type", "outcome"])
        for kind in IntegrationType:
            for outcome in Sent:
                sent.add_metric([kind, outcome], tallies.n(Tally.INTEGRATION, kind, outcome))
        tokens = tallies.amount(Tally.TRAINED_TOKENS)
        yield from (attempts, seconds, ended, job_seconds, eta, decided, sent)
        yield CounterMetricFamily("meteor_trained_tokens", "Tokens that trainings have read", tokens)

    def _processes(self) -> Iterator[Metric]:
        lease = self.context.platform.lease.total_seconds()
        processes = self.context.stores.operations.processes(lease, LOST_FOR_S)
        told = "Processes that send heartbeats"
        yield gauges("meteor_processes", told, "service", SERVICES, lambda service: processes.alive[service])
        told = "Processes whose heartbeats stopped within ten minutes, without a sign-off"
        yield gauges("meteor_processes_lost", told, "service", SERVICES, lambda service: processes.lost[service])
        told = "Steps that the live workers of a queue run at once"
        yield gauges("meteor_worker_slots", told, "queue", Queue, lambda queue: processes.slots[queue])

    def _budgets(self) -> Iterator[Metric]:
        jobs = self.context.stores.operations.active_jobs()
        used = budget_use(self.context.ledger.engine, jobs, time.time())
        told = "Spent and held share of the fullest budget of a kind"
        yield gauges("meteor_budget_used_ratio", told, "budget", used, lambda kind: used[BudgetKind(kind)].used)
        told = "Budgets in use that have a limit"
        yield gauges("meteor_budgets_limited", told, "budget", used, lambda kind: used[BudgetKind(kind)].limited)

    def _outside(self) -> Iterator[Metric]:
        messages, canaries = self.context.stores.operations.deliveries(), self.context.stores.operations.canaries()
        told = "Webhook messages that are kept, by state"
        yield gauges("meteor_webhook_deliveries", told, "state", DELIVERY_STATES, lambda state: messages.get(state, 0))
        yield gauges("meteor_canaries", "Canaries by state", "state", CANARY_STATES, lambda state: canaries[state])


def gauges(
    name: str, told: str, label: str, values: Iterable[str], value_of: Callable[[str], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, told, labels=[label])
    for value in values:
        family.add_metric([str(value)], value_of(value))
    return family


def add_histogram(
    family: HistogramMetricFamily, labels: list[str], tallies: Tallies, metric: Tally, *names: str
) -> None:
    histogram = tallies.histogram(metric, *names)
    family.add_metric(labels, histogram.buckets, histogram.amount)
