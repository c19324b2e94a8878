"""What happens to which host and when: all of it follows from the seed and the number of strikes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.schedule import Strike, Target, schedule

LEASE_S = 6.0  # three hosts on one machine need twice the time of one
FREEZE_S = (LEASE_S + 1.0, LEASE_S + 3.0)  # longer than a lease, so that what was frozen comes back as a stranger
CUT_S = (LEASE_S + 1.0, 2 * LEASE_S)
PAUSE_S = (2.0, 6.0)  # between two strikes
TARGETS = [
    target for target in Target if target not in (Target.BROKER, Target.POSTGRES)
]  # the shared ones are no host's


class Deed(StrEnum):
    PROCESS = "process"
    CUT = "cut off"
    POWER = "power cut"


ROUND = [Deed.CUT] * 3 + [Deed.POWER] + [Deed.PROCESS] * 6  # of each ten strikes


@dataclass(frozen=True)
class HostStrike:
    """process: who is struck, of a Deed.PROCESS. cut_s: how long the host is without network, of a Deed.CUT. pause_s: waited before."""

    host: str
    deed: Deed
    pause_s: float
    cut_s: float = 0.0
    process: Strike | None = None

    @property
    def words(self) -> str:
        if self.process is None:
            return f"{self.host} {self.deed}" + (f" for {self.cut_s:.1f} s" if self.cut_s else "")
        return f"{self.host} {self.process.target} {self.process.deed}"


def host_schedule(seed: int, count: int, hosts: Sequence[str], ray: bool = False) -> list[HostStrike]:
    """Each deed meets the hosts in turn, in a shuffled order; the processes are those of the drill on one host. ray: trainers have no
    child that trains."""
    dice = random.Random(seed)
    deeds: list[Deed] = []
    while len(deeds) < count:
        deeds += dice.sample(ROUND, len(ROUND))
    deeds = deeds[:count]
    processes = iter(
        schedule(
            seed,
            deeds.count(Deed.PROCESS),
            [target for target in TARGETS if not (ray and target is Target.TRAINING)],
            FREEZE_S,
        )
    )
    turns: dict[Deed, list[str]] = {deed: [] for deed in Deed}
    strikes = []
    for deed in deeds:
        turn = turns[deed]
        if not turn:
            turn += dice.sample(list(hosts), len(hosts))
        pause_s = round(dice.uniform(*PAUSE_S), 2)
        cut_s = round(dice.uniform(*CUT_S), 2) if deed is Deed.CUT else 0.0
        strikes.append(HostStrike(turn.pop(), deed, pause_s, cut_s, next(processes) if deed is Deed.PROCESS else None))
    return strikes
