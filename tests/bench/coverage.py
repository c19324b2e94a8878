"""Whether the 95 % intervals hold: `python -m tests.bench.coverage` prints one JSON object, a share of covered truths per cell.

shares: exact, from the binomial distribution. gains of shares and means: --draws simulated samples a cell.
"""

import argparse
import json

import numpy as np
from scipy.stats import binom

from shared.statistics import mean_interval, paired_mean_gain, paired_share_gain, share_interval

SIZES = (30, 60, 100, 200, 500)
SHARES = (0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
GAINS = (0.0, 0.05)
AGREED = 0.7  # share of rows on which two models are right or wrong together
WANTED = 0.93
Cell = dict[str, float | int | str]


def share(n: int, p: float) -> float:
    """Coverage of a share's interval, summed over all outcomes."""
    found = [share_interval(k, n) for k in range(n + 1)]
    inside = np.array([interval.low <= p <= interval.high for interval in found])
    return float(binom.pmf(np.arange(n + 1), n, p)[inside].sum())


def share_gain(n: int, p: float, gain: float, draws: int, random: np.random.Generator) -> float:
    """Coverage of the paired gain's interval; each distinct table is worked out once."""
    common = random.random((draws, n)) < AGREED
    first = random.random((draws, n))
    second = np.where(common, first, random.random((draws, n)))
    before, after = first < p, second < p + gain
    tables = np.stack([(after & ~before).sum(1), (before & ~after).sum(1)], axis=1)
    covered = 0
    for (won, lost), times in zip(*np.unique(tables, axis=0, return_counts=True), strict=True):
        rows = [(0, 1)] * int(won) + [(1, 0)] * int(lost) + [(0, 0)] * (n - int(won) - int(lost))
        interval = paired_share_gain([a for a, _ in rows], [b for _, b in rows])
        covered += int(times) * (interval.low <= gain <= interval.high)
    return covered / draws


def mean(n: int, a: float, b: float, draws: int, random: np.random.Generator) -> float:
    """Coverage of the mean of scores that follow a beta distribution, as similarities roughly do."""
    samples = random.beta(a, b, (draws, n))
    found = [mean_interval(sample.tolist()) for sample in samples]
    return sum(i.low <= a / (a + b) <= i.high for i in found) / draws


def mean_gain(n: int, changed: float, draws: int, random: np.random.Generator) -> float:
    """Coverage of the mean paired gain where only a share of the rows changes at all."""
    before = random.beta(1, 2, (draws, n))
    moved = np.where(random.random((draws, n)) < changed, random.beta(2, 1, (draws, n)), before)
    truth = changed * (2 / 3 - 1 / 3)
    found = [paired_mean_gain(x.tolist(), y.tolist()) for x, y in zip(before, moved, strict=True)]
    return sum(i.low <= truth <= i.high for i in found) / draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    random = np.random.default_rng(2024)
    cells: list[Cell] = []
    for n in SIZES:
        for p in SHARES:
            cells.append({"of": "share", "n": n, "p": p, "covered": share(n, p)})
            cells += [
                {"of": "gain of a share", "n": n, "p": p, "gain": g, "covered": share_gain(n, p, g, draws, random)}
                for g in GAINS
                if p + g <= 1
            ]
        for a, b in ((0.5, 4), (2, 2), (4, 0.5)):
            cells.append({"of": "mean", "n": n, "beta": f"{a}, {b}", "covered": mean(n, a, b, draws, random)})
        for changed in (0.1, 0.5):
            cells.append(
                {"of": "gain of a mean", "n": n, "changed": changed, "covered": mean_gain(n, changed, draws, random)}
            )
    low = [cell for cell in cells if float(cell["covered"]) < WANTED]
    kinds = {str(cell["of"]): [float(c["covered"]) for c in cells if c["of"] == cell["of"]] for cell in cells}
    summary = {
        kind: {"cells": len(v), "lowest": round(min(v), 3), "mean": round(sum(v) / len(v), 3)}
        for kind, v in kinds.items()
    }
    print(json.dumps({"draws": draws, "wanted": WANTED, "by_kind": summary, "below": low}))


if __name__ == "__main__":
    main()
