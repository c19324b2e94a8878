"""Who is struck, how and how long: all of it follows from the seed and the number of strikes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

LEASE_S = 3.0
FREEZE_S = (LEASE_S + 1.0, LEASE_S + 2.0)  # longer than a lease, so that what was frozen wakes up as a stranger
FROZEN_SHARE = 0.3


class Target(StrEnum):
    """Where more than a name is needed to find it, see Fleet.pids."""

    API = "api"
    ORCHESTRATOR = "orchestrator"
    GATEWAY = "gateway"
    STRONG_WORKER = "strong-worker"
    JUDGE_WORKER = "judge-worker"
    WEAK_WORKER = "weak-worker"
    TRAINER = "trainer"
    TRAINING = "training child"
    ENGINE = "student-engine"
    VLLM = "vllm"
    BROKER = "broker"
    POSTGRES = "postgres"


SLOTTED = {Target.STRONG_WORKER, Target.JUDGE_WORKER, Target.WEAK_WORKER, Target.TRAINER}


@dataclass(frozen=True)
class Strike:
    """freeze_s 0: SIGKILL, else SIGSTOP and after so long SIGCONT.

    slot: of a worker only that pool process (by position) is meant, None: all of it. pause_s: waited before the strike, so
    that it does not always meet the moment after a step's end.
    """

    target: Target
    freeze_s: float
    slot: int | None
    pause_s: float

    @property
    def deed(self) -> str:
        return "frozen" if self.freeze_s else "killed"


def schedule(
    seed: int, count: int, targets: Sequence[Target], freeze_s: tuple[float, float] = FREEZE_S
) -> list[Strike]:
    """Each target once in a shuffled round, then the next round: none is left out by chance. freeze_s: how long, from and to."""
    dice = random.Random(seed)
    order: list[Target] = []
    while len(order) < count:
        order += dice.sample(targets, len(targets))
    return [_strike(dice, target, freeze_s) for target in order[:count]]


def _strike(dice: random.Random, target: Target, between: tuple[float, float]) -> Strike:
    freeze_s = round(dice.uniform(*between), 2) if dice.random() < FROZEN_SHARE else 0.0
    slot = dice.randrange(8) if dice.random() < 0.5 else None
    return Strike(target, freeze_s, slot if target in SLOTTED else None, round(dice.uniform(0.0, 1.0), 2))
