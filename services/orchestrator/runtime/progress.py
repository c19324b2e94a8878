"""How far a job is, and when it will end: planned rows per stage, weighted by a guess that measurement corrects."""

import time

from shared.contracts.distillation import Baseline, Distillation, Guidance, Phase
from shared.contracts.jobs import JobProgress
from shared.contracts.steps import StepKind
from shared.plan.allocation import allocate
from shared.plan.measurements import students_measured

# Relative seconds per row on the machine of docs/results.md. Only ratios matter: the ETA scales with what was measured.
COST = {
    StepKind.GUIDE: 1.1,
    StepKind.ANSWER: 0.6,
    StepKind.REASON: 1.5,
    StepKind.TEACH: 2.2,
    StepKind.READ: 5.0,
    StepKind.ASK: 8.0,
    StepKind.REVIEW: 2.5,
    StepKind.GRADE: 0.01,
    StepKind.COMPARE: 5.0,
    StepKind.RATE: 2.5,
    StepKind.SCORE: 0.5,
    StepKind.SFT: 0.4,
    StepKind.SEARCH: 3.0,
    StepKind.DPO: 1.5,
    StepKind.MERGE: 5.0,
    StepKind.GGUF: 60.0,
    StepKind.PUSH: 60.0,
}


def planned_work(
    spec: Distillation, sizes: dict[str, int], references: bool = True, judge_measures: bool = False
) -> float:
    """Weighted rows of the whole job. sizes: rows of train, dev and test that will be used. references: whether train has any.
    judge_measures: it compares every student's answers on dev and test with the base's."""
    rows = allocate(sizes["train"], spec)
    work = 0.0
    if Phase.DISTILL in rows and spec.distill.answers == "references":
        work += rows[Phase.DISTILL] * COST[StepKind.SFT] * spec.distill.epochs
    elif Phase.DISTILL in rows:
        guide = 0 if spec.guidance is Guidance.NONE else COST[StepKind.GUIDE]
        both = spec.guidance in (Guidance.AUTO, Guidance.BEST)
        work += min(spec.pilot.questions, rows[Phase.DISTILL]) * (COST[StepKind.TEACH] * (2 if both else 1) + guide)
        work += rows[Phase.DISTILL] * (guide + COST[StepKind.TEACH] + COST[StepKind.SFT] * spec.distill.epochs)
    if Phase.ITERATE in rows:
        tries = 1 + (spec.iterate.tries - 1) * 0.6
        per_row = (COST[StepKind.REASON] + COST[StepKind.REVIEW]) * tries + COST[
            StepKind.SFT
        ] * spec.iterate.epochs * 0.6
        work += rows[Phase.ITERATE] * per_row
    if Phase.EVOLVE in rows:
        search = 0 if spec.evolve.pairs == "file" else COST[StepKind.SEARCH]
        per_row = search + COST[StepKind.DPO] * 0.5 * spec.evolve.epochs
        work += rows[Phase.EVOLVE] * per_row * spec.evolve.turns
    answer = COST[StepKind.ANSWER] + COST[StepKind.GRADE]
    work += 2 * spec.evaluation.forgetting * answer
    for split, students in zip(("dev", "test"), students_measured(spec, references), strict=True):
        work += sizes[split] * (answer * (1 + students) + (COST[StepKind.COMPARE] * students if judge_measures else 0))
    rating = 2 * COST[StepKind.RATE] if spec.evaluation.absolute_scores else 0
    work += min(spec.evaluation.judged_questions, sizes["test"]) * (COST[StepKind.COMPARE] + rating)
    if Baseline.SFT_REFERENCES in spec.evaluation.baselines and references:
        work += sum(rows.values()) * COST[StepKind.SFT] * spec.distill.epochs
    return work


ENOUGH = 0.003  # share of the work that has to be measured before an ETA is worth showing


class ProgressMeter:
    """Counts weighted rows as steps end; rows of running steps count in part."""

    def __init__(self, total: float):
        self.total = max(total, 1e-9)
        self.done = 0.0
        self._running: dict[str, float] = {}
        self._found: dict[str, float] = {}  # of running steps: what was done when this process first saw them
        self._fresh = 0.0  # work done by this process, on which the speed is measured
        self._started = time.monotonic()

    def more(self, kind: StepKind, rows: float) -> None:
        """Work that the plan could not know of."""
        self.total += COST[kind] * rows

    def running(self, key: str, kind: StepKind, rows: float, share: float) -> None:
        self._running[key] = COST[kind] * rows * min(max(share, 0.0), 1.0)
        self._found.setdefault(key, self._running[key])

    def ended(self, key: str, kind: StepKind, rows: float, seconds: float) -> None:
        """seconds: how long this process waited for it; a step kept from before took none and tells no speed."""
        self._running.pop(key, None)
        found = self._found.pop(key, 0.0)
        self.done += COST[kind] * rows
        if seconds > 0.05:
            self._fresh += COST[kind] * rows - found

    def progress(self) -> JobProgress:
        running = sum(self._running.values())
        done = min(self.done + running, self.total * 0.99)
        measured = self._fresh + running - sum(self._found.values())
        elapsed = time.monotonic() - self._started
        eta = (self.total - done) * elapsed / measured if measured > ENOUGH * self.total else None
        return JobProgress(
            percent=round(100 * done / self.total, 1),
            done=round(done, 1),
            total=round(self.total, 1),
            eta_seconds=round(eta, 1) if eta is not None else None,
        )
