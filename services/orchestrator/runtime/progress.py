"""How far a job is, and when it will end: the plan's rows, weighted by cost, and the speed of each kind of step: at first as it is
expected on this machine (shared/plan/rates.py), then as this job is measured."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from shared.contracts.jobs import JobProgress, Measured
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import cost
from shared.contracts.steps import StepKind
from shared.plan.plan import PlannedRows, weighted
from shared.plan.rates import FIRST, LEARNED, Rate, Rates

ENOUGH = 0.003  # share of the work that has to be measured before an ETA is shown
INSTANT_S = 0.05  # a step that ends sooner had a cached result
ALMOST = 0.95  # share of a running step at most that is assumed by its age
STEADY = 0.15  # an ETA that grows by less is held: batches of one kind differ by as much
SILENT = {StepKind.PROBE}  # kinds whose workers report nothing until they have ended
EXPECTED = 0.1  # share of a kind's rows that an expected speed counts as, against measured ones
DOUBT, DOUBT_S = 1.5, 15.0  # an ETA that the measured speeds exceed by less is held
RISE, RISE_EVERY_S = 1.1, 10.0  # one that they exceed by more rises in steps
LEAST_SPREAD = 1.1


@dataclass
class Running:
    """A step in progress. rows: repeats counted. share: done of them. measured_from: the share from which speed is measured,
    since an earlier process, or the loading of a model, tells no speed. loaded: it has made progress in this process."""

    kind: StepKind
    rows: float
    since: float
    share: float
    measured_from: float
    loaded: bool = False


class ProgressMeter:
    """Counts rows as steps end; rows of running steps count in part.

    Time is divided equally among the kinds that run at the same moment, so the seconds of all kinds add up to the time that
    has passed, however many workers there are. A kind that has not run yet takes its cost, scaled by the kinds that have.
    """

    def __init__(self, plan: PlannedRows, clock: Callable[[], float] = time.monotonic, rates: Rates | None = None):
        """rates: expected ones; without them there is no ETA before enough has been measured."""
        self.total = max(weighted(plan), 1e-9)
        self.done = 0.0
        self._clock = clock
        self._stages = list(dict.fromkeys(stage for stage, _ in plan))
        self._planned = defaultdict[tuple[str, StepKind], float](
            float, plan
        )  # rows still to come, running ones included
        self._weights = defaultdict[StepKind, float](float)
        for (_, kind), rows in plan.items():
            self._weights[kind] += cost(kind, rows)
        self._running: dict[StepKey, Running] = {}
        self._rows = defaultdict[StepKind, float](float)  # of ended steps, as far as this process saw them worked on
        self._seconds = defaultdict[StepKind, float](float)  # of these rows and of running steps
        self._durations = defaultdict[StepKind, float](float)  # of the ended steps, one by one
        self._rates = rates or {}
        self._ticked = clock()
        self._eta: float | None = None
        self._rose = float("-inf")

    def more(self, kind: StepKind, rows: float) -> None:
        """Work on top of the plan or, where negative, less of it; in the last stage."""
        self.total += cost(kind, rows)
        if self._stages:
            self._planned[self._stages[-1], kind] += rows

    def enter(self, stage: str) -> None:
        """The stages before this one are over: the rest of what they planned does not come."""
        over = self._stages[: self._stages.index(stage)] if stage in self._stages else []
        for name, kind in list(self._planned):
            if name in over:
                del self._planned[name, kind]

    def running(self, key: StepKey, kind: StepKind, rows: float, share: float) -> None:
        self._tick()
        share = min(max(share, 0.0), 1.0)
        step = self._running.setdefault(key, Running(kind, rows, self._ticked, share, share))
        if share > step.share and not step.loaded:
            step.loaded = True
            if not self._rows[kind] and not self._durations[kind]:
                self._seconds[kind], step.measured_from = 0.0, share  # a model was loading before the first progress
        step.share = share

    def ended(self, key: StepKey, kind: StepKind, rows: float) -> None:
        self._tick()
        step = self._running.pop(key, None)
        if step is not None and self._ticked - step.since > INSTANT_S:
            self._rows[kind] += rows * (1 - step.measured_from)
            self._durations[kind] += self._ticked - step.since
        self.done += cost(kind, rows)
        self._planned[key.phase, kind] -= rows

    def stopped(self, key: StepKey) -> None:
        """The step failed, or its job is over."""
        self._running.pop(key, None)

    def progress(self) -> JobProgress:
        self._tick()
        running = sum(cost(step.kind, step.rows) * step.share for step in self._running.values())
        done = min(self.done + running, self.total * 0.99)
        left = self._expected_left() if self._rates else _exactly(self._seconds_left())
        self._eta = self._steady(left.likely if left else None)
        low, high = (left.low, left.high) if left else (None, None)
        return JobProgress(
            percent=round(100 * done / self.total, 1),
            done=round(done, 1),
            total=round(self.total, 1),
            eta_seconds=_rounded(self._eta),
            eta_low_seconds=_rounded(self._eta and min(low or 0.0, self._eta)),
            eta_high_seconds=_rounded(self._eta and max(high or 0.0, self._eta)),
            measured=self.measured(),
        )

    def measured(self) -> dict[str, Measured]:
        """Rows and seconds of the kinds of which steps have ended here."""
        running = defaultdict[StepKind, float](float)
        for step in self._running.values():
            running[step.kind] += step.rows * (self._share(step) - step.measured_from)
        return {
            kind.value: Measured(rows=round(rows + running[kind], 2), seconds=round(self._seconds[kind], 3))
            for kind, rows in self._rows.items()
            if rows > 0
        }

    def _tick(self) -> None:
        now = self._clock()
        kinds = {step.kind for step in self._running.values()}
        for kind in kinds:
            self._seconds[kind] += (now - self._ticked) / len(kinds)
        self._ticked = now

    def _share(self, step: Running) -> float:
        """What the worker has reported, or what the step's age suggests where steps of its kind have ended; of a kind whose workers
        report nothing, what its age suggests by the expected speed."""
        if not self._rows[step.kind]:
            rate = self._rates.get(step.kind) if step.kind in SILENT else None
            return step.share if rate is None else min((self._ticked - step.since) / rate.seconds / step.rows, ALMOST)
        expected = step.rows * self._durations[step.kind] / self._rows[step.kind]
        return max(step.share, min((self._ticked - step.since) / expected, ALMOST) if expected else 0.0)

    def _seconds_left(self) -> float | None:
        """None before enough has been measured."""
        rows, to_come = self._by_place()
        speeds = {kind: self._seconds[kind] / count for kind, count in rows.items() if count > 0}
        if sum(cost(kind, rows[kind]) for kind in speeds) <= ENOUGH * self.total:
            return None
        weights = {kind: self._weights.get(kind, 0) or cost(kind, rows[kind]) for kind in speeds}
        scale = sum(weights[kind] * speeds[kind] / cost(kind, 1) for kind in speeds) / sum(weights.values())
        return sum(count * speeds.get(kind, cost(kind, scale)) for (_, kind), count in to_come.items())

    def _left(self) -> tuple[dict[StepKind, float], dict[StepKind, float]]:
        """By kind: rows measured in this job, rows still to come."""
        rows, places = self._by_place()
        to_come = defaultdict[StepKind, float](float)
        for (_, kind), count in places.items():
            to_come[kind] += count
        return rows, to_come

    def _by_place(self) -> tuple[dict[StepKind, float], dict[tuple[str, StepKind], float]]:
        """Rows measured in this job, by kind; rows still to come, by phase and kind."""
        rows, left = self._rows.copy(), self._planned.copy()
        running = defaultdict[tuple[str, StepKind], float](float)
        for key, step in self._running.items():
            share = self._share(step)
            rows[step.kind] += step.rows * (share - step.measured_from)
            left[key.phase, step.kind] -= step.rows * share
            running[key.phase, step.kind] += step.rows * (1 - share)
        return rows, {place: max(left[place], running[place], 0) for place in left.keys() | running.keys()}

    def _expected_left(self) -> "Left":
        """By the expected speeds, which give way to measured ones as rows are done."""
        rows, to_come = self._left()
        likely = low = high = 0.0
        for kind, count in to_come.items():
            rate = self._rates.get(kind) or Rate(cost(kind, 1), FIRST)
            doubt = max(EXPECTED * (rows[kind] + count), 1e-9)
            trust = rows[kind] / (rows[kind] + doubt)
            speed = (1 - trust) * rate.seconds + (trust * self._seconds[kind] / rows[kind] if rows[kind] > 0 else 0.0)
            spread = max(LEAST_SPREAD, rate.spread ** (1 - trust))
            likely, low, high = likely + count * speed, low + count * speed / spread, high + count * speed * spread
        return Left(likely, low, high)

    def _steady(self, eta: float | None) -> float | None:
        """Hold an ETA that grows a little; let one that was far too small rise in steps."""
        before = self._eta
        if not eta or not before or eta <= before:
            return eta
        if not self._rates:
            return before if eta <= before * (1 + STEADY) else eta
        if eta <= before * DOUBT + DOUBT_S or self._ticked - self._rose < RISE_EVERY_S:
            return before
        self._rose = self._ticked
        return before * RISE


class Left(NamedTuple):
    """Seconds."""

    likely: float
    low: float
    high: float


def _exactly(seconds: float | None) -> Left | None:
    return None if seconds is None else Left(seconds, seconds / LEARNED, seconds * LEARNED)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
