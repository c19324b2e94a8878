"""Observations of canaries with a goal: summed up in memory, and written once a second outside of the requests.

A process that is killed loses the last second. What cannot be written waits; beyond a limit it is dropped and counted.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Mapping

from prometheus_client import Counter

from shared.contracts.canary import Arm, Metric, Per
from shared.db.engine import UNAVAILABLE
from shared.jobs.canary_store import CanaryStore, CountKey, Sum, Trial, UnitKey, added_up
from shared.platform.log import get_logger

log = get_logger(__name__)
WRITE_EVERY_S = 1.0
MOST_WAITING = 10_000  # users, and sums of one canary, step, arm and minute
MOST_USERS = 200_000  # that are remembered
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
        self._sums: dict[CountKey, Sum] = {}
        self._of_users: dict[UnitKey, dict[CountKey, Sum]] = {}
        self._minute = 0
        self._this_minute: set[UnitKey] = set()
        self._users: set[UnitKey] = set()

    def admit(self, trial: Trial, user: str) -> UnitKey | None:
        """The user in this step if this answer is counted, else None: of each user once a step, or once a minute. A user's requests stay
        with one version and tend to end alike, so many of them are not as many observations."""
        digest = hashlib.sha256(f"{trial.canary_id}\0{user}".encode(errors="replace")).hexdigest()
        key, seen = UnitKey(trial.canary_id, trial.step, digest[:32]), self._seen(trial)
        if key in seen:
            return None
        seen.add(key)
        return key

    def _seen(self, trial: Trial) -> set[UnitKey]:
        """By this process. Who is forgotten here is still known to the database, of users in a step; in a minute many count twice."""
        minute = int(time.time() // 60)
        if minute != self._minute or len(self._this_minute) >= MOST_USERS:
            self._minute, self._this_minute = minute, set()
        if len(self._users) >= MOST_USERS:
            self._users = set()
        return self._users if trial.per is Per.USER else self._this_minute

    def answered(self, trial: Trial, user: UnitKey, arm: Arm, outcome: str, seconds: float) -> None:
        loss = loss_of(trial, outcome, seconds)
        if loss is None:
            self._users.discard(user)  # the user's next answer counts
        else:
            self._add(trial, user, {arm: Sum(1.0, loss)})

    def pair(self, trial: Trial, user: UnitKey, served: float | None, canary: float | None) -> None:
        """Scores of two answers to one question; None: that could not be graded."""
        if served is None or canary is None:
            self._add(trial, user, {Arm.UNGRADED: Sum(1.0, 0.0)})
            return
        difference = served - canary
        self._add(
            trial,
            user,
            {
                Arm.SERVED: Sum(1.0, 1 - served),
                Arm.CANARY: Sum(1.0, 1 - canary),
                Arm.WORSE: Sum(0.0, max(0.0, difference)),
                Arm.BETTER: Sum(0.0, max(0.0, -difference)),
            },
        )

    def _add(self, trial: Trial, user: UnitKey, by_arm: Mapping[Arm, Sum]) -> None:
        minute = int(time.time() // 60)
        sums = {CountKey(trial.canary_id, trial.step, arm, minute): one for arm, one in by_arm.items()}
        if len(self._sums) + len(self._of_users) >= MOST_WAITING:
            DROPPED.inc()
        elif trial.per is Per.USER:
            self._of_users[user] = sums
        else:
            self._sums = added_up([self._sums, sums])

    async def run(self) -> None:
        """Until cancelled; what waits then is written by `aclose`."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            await self.write()

    async def write(self) -> None:
        if not (self._sums or self._of_users):
            return
        sums, of_users = self._sums, self._of_users
        self._sums, self._of_users = {}, {}
        try:
            await asyncio.to_thread(self._store.add, sums, of_users)
        except UNAVAILABLE as error:
            log.warning("database unavailable, observations of canaries wait", error=str(error))
            self._sums = added_up([sums, self._sums])
            self._of_users = self._of_users | of_users
        except Exception:
            log.exception("observations of canaries were not written")
            DROPPED.inc(sum(one.n for one in sums.values()) + len(of_users))

    async def aclose(self) -> None:
        with contextlib.suppress(Exception):
            await self.write()
