"""How the train split is shared out among a job's phases, and phase 2's part among its rounds. Pure."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TypeVar

from shared.contracts.distillation import Distillation, Phase

T = TypeVar("T")

MAX_SAMPLES = 64  # beams or samples, however often a turn multiplies them
PHASE_SHARES = {Phase.DISTILL: 0.5, Phase.ITERATE: 0.3, Phase.EVOLVE: 0.2}  # of what the job leaves open


def allocate(available: int, spec: Distillation) -> dict[Phase, int]:
    """Questions per phase: what the job names, and shares of the rest for the phases that name nothing.

    Each of these gets at least one question where there are enough; 0 says that there are not.
    """
    wanted = {phase: getattr(spec, phase.value).questions for phase in spec.phases}
    rest = max(0, available - sum(n for n in wanted.values() if n))
    open_shares = sum(PHASE_SHARES[phase] for phase, n in wanted.items() if n is None)
    counts = {
        phase: n if n is not None else int(rest * PHASE_SHARES[phase] / open_shares) for phase, n in wanted.items()
    }
    unused = rest - sum(n for phase, n in counts.items() if wanted[phase] is None)
    for phase in (phase for phase, n in wanted.items() if n is None and counts[phase] == 0):
        richest = max((other for other, n in wanted.items() if n is None), key=counts.__getitem__)
        if unused > 0:
            unused -= 1
        elif counts[richest] > 1:
            counts[richest] -= 1
        else:
            break
        counts[phase] = 1
    return counts


def turn_samples(first: int, growth: int, turn: int) -> int:
    """Beams or samples in a turn of phase 3."""
    return min(MAX_SAMPLES, first * growth ** (turn - 1))


def rounds_of(questions: Sequence[T], rounds: int, first: Sequence[int] = ()) -> list[Sequence[T]]:
    """A fresh shard for each round: as many as `first` says for the first ones, the rest in sizes equal up to one."""
    taken, left = sum(first), rounds - len(first)
    rest = max(0, len(questions) - taken)
    edges = [0, *accumulate(first), *(taken + rest * i // left for i in range(1, left + 1))]
    return [questions[a:b] for a, b in pairwise(edges)]
