"""How often a canary returns although its version does no harm, and how soon it finds a harm: `python -m tests.bench.canaries`.

Simulated canaries are looked at after every few answers. `correlation`: answers to one user share their fate (a beta-binomial, as one
user's requests stay with one version), which the test does not know of.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shared.evaluation.sequential import Arms, evidence_worse

ALPHA = 0.05


@dataclass(frozen=True)
class World:
    """losses: chance of a loss by version. shares: of the canary in each period, one after the other. drift: what is added to both
    chances in each later period. users: requests of one user; correlation: of their losses."""

    served: float = 0.02
    canary: float = 0.02
    shares: tuple[float, ...] = (0.05, 0.25, 0.5)
    requests: int = 1000
    drift: float = 0.0
    users: int = 1
    correlation: float = 0.0


class Result(NamedTuple):
    """returned: share of the runs. median: answers of the canary until then, of those that returned."""

    returned: float
    median: float | None


def simulate(world: World, runs: int = 1000, seed: int = 1, every: int = 20, margin: float = 0.0) -> Result:
    """Requests of each period are looked at after every `every` of them, and a canary returns at the first look with enough evidence."""
    random = np.random.default_rng(seed)
    periods, needed = len(world.shares), np.log(1 / ALPHA)
    totals = np.zeros((4, runs, periods))
    returned = np.full(runs, np.nan)
    for period, share in enumerate(world.shares):
        mine, lost = _period(random, world, runs, period, share)
        for start in range(0, world.requests, every):
            of_canary, bad = mine[:, start : start + every], lost[:, start : start + every]
            parts = (~of_canary, ~of_canary & bad, of_canary, of_canary & bad)
            totals[:, :, period] += [part.sum(axis=1) for part in parts]
            open_runs = np.isnan(returned)
            if not open_runs.any():
                break
            evidence = evidence_worse(Arms(*totals[:, open_runs, : period + 1]), margin)
            harmful = np.flatnonzero(open_runs)[evidence >= needed]
            returned[harmful] = totals[2, harmful].sum(axis=1)
    over = ~np.isnan(returned)
    return Result(float(over.mean()), float(np.median(returned[over])) if over.any() else None)


def _period(
    random: np.random.Generator, world: World, runs: int, period: int, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each request goes to the canary, and whether its answer is a loss."""
    users = -(-world.requests // world.users)
    mine = np.repeat(random.random((runs, users)) < share, world.users, axis=1)[:, : world.requests]
    chance = np.where(mine, world.canary, world.served) + period * world.drift
    if world.correlation:
        weight = 1 / world.correlation - 1
        first = chance[:, :: world.users]
        chance = np.repeat(random.beta(first * weight, (1 - first) * weight), world.users, axis=1)
        chance = chance[:, : world.requests]
    return mine, random.random((runs, world.requests)) < chance


NO_HARM = {
    "rare losses": World(0.001, 0.001),
    "2 % losses": World(),
    "20 % losses": World(0.2, 0.2),
    "50 % losses": World(0.5, 0.5),
    "load that changes with the steps": World(0.02, 0.02, drift=0.1),
    "one share for a long time": World(0.05, 0.05, shares=(0.5,), requests=6000),
    "users of 10 requests, correlation 0.3": World(0.05, 0.05, users=10, correlation=0.3),
}
HARM = {
    "2 to 12 %": World(0.02, 0.12),
    "10 to 20 %": World(0.1, 0.2),
    "20 to 30 %": World(0.2, 0.3),
    "50 to 60 %": World(0.5, 0.6),
    "2 to 100 %": World(0.02, 1.0),
}


def main() -> None:
    for title, worlds in (("no harm", NO_HARM), ("harm", HARM)):
        print(f"{title}: returned, median answers of the canary until then")
        for name, world in worlds.items():
            result = simulate(world)
            print(f"  {name}: {result.returned:.3f}, {result.median}")


if __name__ == "__main__":
    main()
