"""Counts that only grow: how attempts at steps, jobs and canaries ended, and how long they took. GET /metrics shows them.

They are rows, because workers have no port, and because a count in memory starts anew with its process. `tally` is the last
statement of the transaction that it counts: its row is held until the commit, and every process writes the same rows.
"""

from bisect import bisect_left
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, Engine, select

from shared.db.engine import added_up, reading, writing
from shared.db.fetch import fetch_all
from shared.jobs.records import TallyRecord
from shared.jobs.tables import DEFAULT_PROJECT, tallies

if TYPE_CHECKING:
    from sqlalchemy import Executable


class Tally(StrEnum):
    """What is counted. The comment names its labels."""

    STEP = "step"  # kind, AttemptOutcome
    JOB = "job"  # JobKind, final JobStatus
    ETA_ERROR = "eta_error"  # none
    TRAINED_TOKENS = "trained_tokens"  # none
    CANARY = "canary"  # a canary's Outcome
    INTEGRATION = "integration"  # IntegrationType, sent or failed


class AttemptOutcome(StrEnum):
    """How an attempt at a step ended; `reused`: there was none, because an equal step had ended before."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"
    LOST = "lost"
    RELEASED = "released"
    POSTPONED = "postponed"
    REUSED = "reused"


# Upper bounds of the buckets; larger values are in one more. What is not here has no buckets.
BOUNDS: dict[Tally, tuple[float, ...]] = {
    Tally.STEP: (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400),
    Tally.JOB: (10, 60, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400, 259200),
    Tally.ETA_ERROR: (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5),
}


class Count(NamedTuple):
    """A row: how many values fell into a bucket, and their sum."""

    metric: Tally
    labels: tuple[str, ...]
    bucket: int
    n: int
    amount: float


class Histogram(NamedTuple):
    """buckets: upper bound -> how many values are not above it, "+Inf" last."""

    buckets: list[tuple[str, float]]
    n: int
    amount: float


class Tallies(NamedTuple):
    """All counts at one moment."""

    counts: list[Count]

    def n(self, metric: Tally, *labels: str) -> int:
        return sum(one.n for one in self.counts if one.metric is metric and one.labels == labels)

    def amount(self, metric: Tally, *labels: str) -> float:
        return sum(one.amount for one in self.counts if one.metric is metric and one.labels == labels)

    def histogram(self, metric: Tally, *labels: str) -> Histogram:
        mine = [one for one in self.counts if one.metric is metric and one.labels == labels]
        names = [*(f"{bound:g}" for bound in BOUNDS[metric]), "+Inf"]
        sums = [(name, float(sum(one.n for one in mine if one.bucket <= at))) for at, name in enumerate(names)]
        return Histogram(sums, sum(one.n for one in mine), sum(one.amount for one in mine))


def tally(connection: Connection, metric: Tally, labels: Sequence[str] = (), amount: float = 0.0, n: int = 1) -> None:
    """Count n times a value that together make `amount`. The transaction's last statement."""
    row = {
        "metric": metric,
        "labels": "/".join(labels),
        "bucket": bisect_left(BOUNDS.get(metric, ()), amount / n),
        "project_id": DEFAULT_PROJECT,
        "n": n,
        "amount": amount,
    }
    connection.execute(_add(connection.dialect.name), row)


@lru_cache
def _add(dialect: str) -> "Executable":
    """Built once: building it takes longer than running it."""
    return added_up(dialect, tallies, ("n", "amount"))


class TallyStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def count(self, metric: Tally, *labels: str, amount: float = 0.0) -> None:
        with writing(self.engine) as connection:
            tally(connection, metric, labels, amount)

    def all(self) -> Tallies:
        with reading(self.engine) as connection:
            rows = fetch_all(connection, TallyRecord, select(tallies))
        known = {metric.value for metric in Tally}  # a newer process may write others
        return Tallies(
            [
                Count(Tally(row.metric), tuple(filter(None, row.labels.split("/"))), row.bucket, row.n, row.amount)
                for row in rows
                if row.metric in known
            ]
        )
