"""How far a job is, and when it will end: the plan's rows, weighted by cost, and the speed of each kind of step in this job."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from shared.contracts.jobs import JobProgress
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import cost
from shared.contracts.steps import StepKind
from shared.plan.plan import PlannedRows, weighted

ENOUGH = 0.003  # share of the work that has to be measured before an ETA is shown
INSTANT_S = 0.05  # a step that ends sooner had a cached result
ALMOST = 0.95  # share of a running step at most that is assumed by its age
STEADY = 0.15  # an ETA that grows by less is held: batches of one kind differ by as much


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

    def __init__(self, plan: PlannedRows, clock: Callable[[], float] = time.monotonic):
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
        self._ticked = clock()
        self._eta: float | None = None

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
        self._eta = self._steady(self._seconds_left())
        return JobProgress(
            percent=round(100 * done / self.total, 1),
            done=round(done, 1),
            total=round(self.total, 1),
            eta_seconds=round(self._eta, 1) if self._eta is not None else None,
        )

    def _tick(self) -> None:
        now = self._clock()
        kinds = {step.kind for step in self._running.values()}
        for kind in kinds:
            self._seconds[kind] += (now - self._ticked) / len(kinds)
        self._ticked = now

    def _share(self, step: Running) -> float:
        """What the worker has reported, or what the step's age suggests where steps of its kind have ended."""
        if not self._rows[step.kind]:
            return step.share
        expected = step.rows * self._durations[step.kind] / self._rows[step.kind]
        return max(step.share, min((self._ticked - step.since) / expected, ALMOST) if expected else 0.0)

    def _seconds_left(self) -> float | None:
        """None before enough has been measured."""
        rows, left = self._rows.copy(), self._planned.copy()
        running = defaultdict[tuple[str, StepKind], float](float)
        for key, step in self._running.items():
            share = self._share(step)
            rows[step.kind] += step.rows * (share - step.measured_from)
            left[key.phase, step.kind] -= step.rows * share
            running[key.phase, step.kind] += step.rows * (1 - share)
        speeds = {kind: self._seconds[kind] / count for kind, count in rows.items() if count > 0}
        if sum(cost(kind, rows[kind]) for kind in speeds) <= ENOUGH * self.total:
            return None
        weights = {kind: self._weights.get(kind, 0) or cost(kind, rows[kind]) for kind in speeds}
        scale = sum(weights[kind] * speeds[kind] / cost(kind, 1) for kind in speeds) / sum(weights.values())
        return sum(
            max(left[place], running[place], 0) * speeds.get(place[1], cost(place[1], scale))
            for place in left.keys() | running.keys()
        )

    def _steady(self, eta: float | None) -> float | None:
        """Hold an ETA that grows a little."""
        before = self._eta
        return before if eta and before and before < eta <= before * (1 + STEADY) else eta
