"""What is observed of canaries with a goal: added up in memory, and written once a second, off the path of requests.

A process that is killed loses the last second. What cannot be written waits; of too much that waits the rest is dropped and counted.
"""

import asyncio
import contextlib
import time
from collections import defaultdict

from prometheus_client import Counter

from shared.contracts.canary import Arm, Metric
from shared.db.engine import UNAVAILABLE
from shared.jobs.canary_store import CanaryStore, CountKey, Sum, Trial
from shared.platform.log import get_logger

log = get_logger(__name__)
WRITE_EVERY_S = 1.0
MOST_WAITING = 10_000  # sums; each is of one canary, step, arm and minute
MOST_CONVERSATIONS = 200_000  # of one minute
DROPPED = Counter("meteor_canary_dropped_total", "Observations of canaries that could not be kept")


def loss_of(trial: Trial, outcome: str, seconds: float) -> float | None:
    """Of an answer that ended so; None: it tells nothing. A request that is at fault itself tells nothing of a version; a client that
    left tells of slowness alone."""
    late = trial.limit_ms is not None and seconds * 1000 > trial.limit_ms
    match trial.metric, outcome:
        case Metric.ERRORS | Metric.LATENCY, "error":
            return 1.0
        case Metric.ERRORS, "ok":
            return 0.0
        case Metric.LATENCY, "ok":
            return float(late)
        case Metric.LATENCY, "left" if late:
            return 1.0
        case _:
            return None


class CanaryRecorder:
    def __init__(self, store: CanaryStore):
        self._store = store
        self._sums: defaultdict[CountKey, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._minute = 0
        self._conversations: set[tuple[str, str]] = set()

    def admits(self, trial: Trial, conversation: str) -> bool:
        """Whether this request is counted: one a minute of each conversation. Its requests stay with one version and tend to end alike,
        so many of them are not as many observations."""
        minute = int(time.time() // 60)
        if minute != self._minute:
            self._minute, self._conversations = minute, set()
        key = (trial.canary_id, conversation)
        if key in self._conversations:
            return False
        if len(self._conversations) >= MOST_CONVERSATIONS:
            DROPPED.inc()
            return False
        self._conversations.add(key)
        return True

    def answered(self, trial: Trial, arm: Arm, outcome: str, seconds: float) -> None:
        loss = loss_of(trial, outcome, seconds)
        if loss is not None:
            self.add(trial, arm, 1.0, loss)

    def pair(self, trial: Trial, served: float | None, canary: float | None) -> None:
        """Scores of two answers to one question; None: that could not be graded."""
        if served is None or canary is None:
            self.add(trial, Arm.UNGRADED, 1.0, 0.0)
            return
        difference = served - canary
        self.add(trial, Arm.SERVED, 1.0, 1 - served)
        self.add(trial, Arm.CANARY, 1.0, 1 - canary)
        self.add(trial, Arm.WORSE, 0.0, max(0.0, difference))
        self.add(trial, Arm.BETTER, 0.0, max(0.0, -difference))

    def add(self, trial: Trial, arm: Arm, n: float, loss: float) -> None:
        key = CountKey(trial.canary_id, trial.step, arm, int(time.time() // 60))
        if key not in self._sums and len(self._sums) >= MOST_WAITING:
            DROPPED.inc(max(n, 0.0))
            return
        cell = self._sums[key]
        cell[0] += n
        cell[1] += loss

    async def run(self) -> None:
        """Until cancelled; what waits then is written by `aclose`."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            await self.write()

    async def write(self) -> None:
        if not self._sums:
            return
        taken = {key: Sum(*cell) for key, cell in self._sums.items()}
        self._sums.clear()
        try:
            await asyncio.to_thread(self._store.add, taken)
        except UNAVAILABLE as error:
            log.warning("database unavailable, observations of canaries wait", error=str(error))
            self._put_back(taken)
        except Exception:
            log.exception("observations of canaries were not written")
            DROPPED.inc(sum(max(one.n, 0.0) for one in taken.values()))

    def _put_back(self, taken: dict[CountKey, Sum]) -> None:
        for key, one in taken.items():
            cell = self._sums[key]
            cell[0] += one.n
            cell[1] += one.loss

    async def aclose(self) -> None:
        with contextlib.suppress(Exception):
            await self.write()
