"""How often a canary returns although its version does no harm, and how soon it finds a harm: `python -m tests.bench.canaries`.

Simulated canaries are looked at after every few answers. Users ask several times, their answers share their fate (a beta-binomial), and
they stay with one version. With `per` user each counts once a step, as canaries do unless they are told otherwise.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import betaincinv

from shared.evaluation.sequential import Arms, evidence_worse

ALPHA = 0.05
Per = Literal["user", "answer"]


@dataclass(frozen=True)
class World:
    """losses: chance of a loss by version. shares: of the canary in each period, one after the other. drift: what is added to both
    chances in each later period. users: requests of one user in a period; correlation: of their losses. returning: the same users come in
    each period, as they are, and a share that grows takes further ones."""

    served: float = 0.02
    canary: float = 0.02
    shares: tuple[float, ...] = (0.05, 0.25, 0.5)
    requests: int = 1000
    drift: float = 0.0
    users: int = 1
    correlation: float = 0.0
    returning: bool = False


class Result(NamedTuple):
    """returned: share of the runs. median: answers of the canary until then, counted or not, of those that returned."""

    returned: float
    median: float | None


class Users(NamedTuple):
    """Of each run's users: their places, which decide who answers them, and how prone they are to losses, both in [0, 1)."""

    place: np.ndarray
    prone: np.ndarray


def simulate(
    world: World, runs: int = 1000, seed: int = 1, every: int = 20, margin: float = 0.0, per: Per = "user"
) -> Result:
    """Requests of each period are looked at after every `every` of them, and a canary returns at the first look with enough evidence."""
    random = np.random.default_rng(seed)
    periods, needed = len(world.shares), np.log(1 / ALPHA)
    counted = np.arange(world.requests) % world.users == 0 if per == "user" else np.ones(world.requests, dtype=bool)
    totals, asked = np.zeros((4, runs, periods)), np.zeros(runs)
    returned = np.full(runs, np.nan)
    users = _users(random, world, runs)
    for period, share in enumerate(world.shares):
        if not world.returning:
            users = _users(random, world, runs)
        mine, lost = _period(random, world, users, period, share)
        for start in range(0, world.requests, every):
            part = slice(start, start + every)
            of_canary, bad = mine[:, part], lost[:, part]
            asked += of_canary.sum(axis=1)
            parts = (~of_canary, ~of_canary & bad, of_canary, of_canary & bad)
            totals[:, :, period] += [(one & counted[part]).sum(axis=1) for one in parts]
            open_runs = np.isnan(returned)
            if not open_runs.any():
                break
            evidence = evidence_worse(Arms(*totals[:, open_runs, : period + 1]), margin)
            harmful = np.flatnonzero(open_runs)[evidence >= needed]
            returned[harmful] = asked[harmful]
    over = ~np.isnan(returned)
    return Result(float(over.mean()), float(np.median(returned[over])) if over.any() else None)


def _users(random: np.random.Generator, world: World, runs: int) -> Users:
    return Users(*random.random((2, runs, -(-world.requests // world.users))))


def _period(
    random: np.random.Generator, world: World, users: Users, period: int, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each request goes to the canary, and whether its answer is a loss."""
    mine = users.place < share
    chance = np.where(mine, world.canary, world.served) + period * world.drift
    if world.correlation:
        weight = 1 / world.correlation - 1
        chance = betaincinv(chance * weight, (1 - chance) * weight, users.prone) if weight else users.prone < chance
    mine, chance = (np.repeat(part, world.users, axis=1)[:, : world.requests] for part in (mine, chance))
    return mine, random.random(mine.shape) < chance


NO_HARM = {
    "rare losses": World(0.001, 0.001),
    "2 % losses": World(),
    "20 % losses": World(0.2, 0.2),
    "50 % losses": World(0.5, 0.5),
    "load that changes with the steps": World(0.02, 0.02, drift=0.1),
    "one share for a long time": World(0.05, 0.05, shares=(0.5,), requests=6000),
}
USERS = World(0.05, 0.05, requests=5000, users=10, correlation=0.3)
NO_HARM_TO_USERS = {
    "users of 10 requests, correlation 0.3": replace(USERS, requests=1000),
    "five times as many of them": USERS,
    "who come again in each step": replace(USERS, returning=True),
    "whose losses are all or none": replace(USERS, returning=True, correlation=1.0),
    "of 50 requests, 30 % losses": replace(USERS, served=0.3, canary=0.3, users=50, returning=True),
}
HARM = {
    "2 to 12 %": World(0.02, 0.12),
    "10 to 20 %": World(0.1, 0.2),
    "20 to 30 %": World(0.2, 0.3),
    "50 to 60 %": World(0.5, 0.6),
    "2 to 100 %": World(0.02, 1.0),
}
HARM_TO_USERS = {
    "5 to 15 % for users": replace(USERS, canary=0.15),
    "5 to 25 % for users": replace(USERS, canary=0.25),
    "5 to 50 % for users": replace(USERS, canary=0.5),
    "5 to 100 % for users": replace(USERS, canary=1.0, correlation=0.0),
}


def main() -> None:
    for title, worlds in (("no harm", NO_HARM | NO_HARM_TO_USERS), ("harm", HARM | HARM_TO_USERS)):
        print(f"{title}: returned and median answers of the canary until then, counted per user; per answer")
        for name, world in worlds.items():
            user, answer = (simulate(world, per=per) for per in ("user", "answer"))
            both = f"; {answer.returned:.3f}, {answer.median}" if world.users > 1 else ""
            print(f"  {name}: {user.returned:.3f}, {user.median}{both}")


if __name__ == "__main__":
    main()
