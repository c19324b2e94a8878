"""How often jobs without any gain promote a student at least once: `python -m tests.bench.looks` prints a table.

Twenty jobs train on one dataset and ask the same dev rows whether their student beats the served one. Each student is right as often as
the base in the population that dev is drawn from, and differs from it on CHANGED_ROWS of the rows. The decisions are those of a job
(`decision_of`, `dev_parts`, `look_level`). Rows of a group share their difficulty (--correlation).
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np

from services.orchestrator.method.decide import decision_of
from services.orchestrator.method.evaluate import EvalResult
from shared.contracts.steps import ModelRef
from shared.evaluation.looks import look_level
from shared.evaluation.parts import dev_parts
from shared.evaluation.statistics import CHANGED_ROWS, LEVEL

JOBS = 20
CORRELATION = 0.3
METRICS = {"share": "string_check", "judge": "judge"}
SURELY_NOT = 1.9  # standard errors; no interval of 95 % lies above zero below that, so none is computed


class World:
    """Dev rows of one dataset, and students that are as good as the base. kind: "share" (right or wrong), or "judge" (won, tied, lost)."""

    def __init__(self, random: np.random.Generator, kind: str, rows: int, each: int):
        self.random, self.kind, self.each = random, kind, each
        self.names = [f"group {row // each}" for row in range(rows)]
        weight = 1 / CORRELATION - 1
        groups = -(-rows // each)
        chances = random.beta(weight / 2, weight / 2, groups) if each > 1 else np.full(groups, 0.5)
        self.chances = np.repeat(chances, each)[:rows]
        self.base = self._drawn()

    def _drawn(self) -> np.ndarray:
        return (self.random.random(len(self.chances)) < self.chances).astype(float)

    def student(self, number: int) -> EvalResult:
        if self.kind == "judge":
            tendency = self.random.permutation(self.chances) if self.each == 1 else self._group_tendency()
            won = self.random.random(len(self.chances)) < tendency
            tie = self.random.random(len(self.chances)) < 0.3
            scores = np.where(tie, 0.5, won.astype(float))
        else:
            redrawn = self.random.random(len(self.base)) < 2 * CHANGED_ROWS
            scores = np.where(redrawn, self._drawn(), self.base)
        return self.result(f"student-{number}", scores)

    def _group_tendency(self) -> np.ndarray:
        weight = 1 / CORRELATION - 1
        chances = self.random.beta(weight / 2, weight / 2, -(-len(self.chances) // self.each))
        return np.repeat(chances, self.each)[: len(self.chances)]

    def served(self) -> EvalResult:
        return self.result("base", self.base if self.kind == "share" else np.full(len(self.base), 0.5))

    def result(self, name: str, scores: np.ndarray) -> EvalResult:
        model = ModelRef(base="b", base_hash="0" * 64, adapter=None if name == "base" else name)
        return EvalResult(name, model, {METRICS[self.kind]: scores.tolist()}, [], groups=self.names)


def on(result: EvalResult, places: Sequence[int]) -> EvalResult:
    """The result on a part of the rows."""
    scores = {name: [values[place] for place in places] for name, values in result.scores.items()}
    return replace(result, scores=scores, groups=[result.groups[place] for place in places])


def of_rounds(
    base: EvalResult, students: Iterator[EvalResult], rounds: int, metric: str, choice: Sequence[int]
) -> EvalResult:
    """What phase 2 makes of its rounds: they go on while the part of dev that is there to choose shows a gain."""
    best = base
    for _ in range(rounds):
        after = next(students)
        if mean(on(after, choice), metric) <= mean(on(best, choice), metric):
            break
        best = after
    return best


def mean(result: EvalResult, metric: str) -> float:
    return float(np.mean(result.scores[metric]))


def promoted(before: EvalResult, after: EvalResult, metric: str, level: float) -> bool:
    """Whether the job's decision is to promote; the interval is computed only where it may lie above zero."""
    gains = np.asarray(after.scores[metric]) - np.asarray(before.scores[metric])
    if gains.sum() <= SURELY_NOT * sqrt(float((gains**2).sum())):
        return False
    return decision_of(before, after, level) == "promoted"


def share_of_runs(
    runs: int,
    kind: str = "share",
    rows: int = 100,
    each: int = 1,
    rounds: int = 1,
    parted: bool = True,
    spent: bool = True,
    seed: int = 1,
) -> float:
    """In which share of the runs at least one of JOBS jobs is promoted. parted: rounds are chosen on a part of dev. spent: by look_level,
    not at 95 % each time."""
    random, metric, any_promoted = np.random.default_rng(seed), METRICS[kind], 0
    for _ in range(runs):
        world = World(random, kind, rows, each)
        parts = dev_parts(world.names) if rounds > 1 and parted else None
        every = list(range(rows))
        choice, rest = parts or (every, every)
        base = world.served()
        students = (world.student(number) for number in range(JOBS * rounds))
        for look in range(1, JOBS + 1):
            final = of_rounds(base, students, rounds, metric, choice) if rounds > 1 else next(students)
            level = look_level(look) if spent else LEVEL
            if final is not base and promoted(on(base, rest), on(final, rest), metric, level):
                any_promoted += 1
                break
    return any_promoted / runs


CASES: dict[str, dict[str, Any]] = {
    "shares, 100 rows": {},
    "shares, 100 rows, each look at 95 %": {"spent": False},
    "shares, 100 rows in groups of 5": {"each": 5},
    "shares, 150 rows, best of 3 rounds on a part": {"rows": 150, "rounds": 3},
    "shares, 150 rows, best of 3 rounds on all": {"rows": 150, "rounds": 3, "parted": False},
    "shares, 150 rows, best of 3 rounds on all, each look at 95 %": {
        "rows": 150,
        "rounds": 3,
        "parted": False,
        "spent": False,
    },
    "judge head to head, 100 rows": {"kind": "judge"},
    "judge head to head, 100 rows in groups of 5": {"kind": "judge", "each": 5},
    "judge head to head, 150 rows, best of 3 rounds on a part": {"kind": "judge", "rows": 150, "rounds": 3},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    print(f"| {JOBS} jobs without a gain, {asked.runs} runs | promoted at least once |\n| --- | ---: |")
    for name, case in CASES.items():
        print(f"| {name} | {share_of_runs(asked.runs, seed=asked.seed, **case):.1%} |", flush=True)


if __name__ == "__main__":
    main()
