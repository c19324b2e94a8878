"""Whether the 95 % intervals hold: `python -m tests.bench.coverage` prints one JSON object, `--markdown` a table.

Shares and their paired gains: exact, summed over all outcomes. Means and their paired gains: --draws simulated samples a
cell, of scores as graders give them: spread between 0 and 1, heaped near an end, or mostly 0 and 1.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from scipy.special import gammaln, xlogy
from scipy.stats import binom

from shared.evaluation.statistics import LEVEL, mean_limits, share_interval, tango_holds

SIZES = (30, 60, 100, 200, 500)
SHARES = (0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
GAINS = (0.0, 0.05)
AGREED = 0.7  # share of rows on which two models are right or wrong together
WANTED = 0.93
DRAWS = 1000
Cell = dict[str, Any]
Draw = Callable[[np.random.Generator, int, int], np.ndarray]  # (random, draws, n) -> scores, of shape (draws, n)


def share(n: int, p: float) -> float:
    """Coverage of a share's interval, summed over all outcomes."""
    inside = [interval.low <= p <= interval.high for interval in (share_interval(k, n) for k in range(n + 1))]
    return float(binom.pmf(np.arange(n + 1), n, p)[inside].sum())


def share_gain(n: int, p: float, gain: float) -> float:
    """Coverage of the paired gain's interval, summed over all tables of won and lost rows."""
    won, lost = (table.ravel() for table in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    won, lost = won[won + lost <= n], lost[won + lost <= n]
    same = n - won - lost
    up = AGREED * gain + (1 - AGREED) * (1 - p) * (p + gain)
    down = (1 - AGREED) * p * (1 - p - gain)
    ways = gammaln(n + 1) - gammaln(won + 1) - gammaln(lost + 1) - gammaln(same + 1)
    chance = np.exp(ways + xlogy(won, up) + xlogy(lost, down) + xlogy(same, 1 - up - down))
    return float(chance[tango_holds(gain, won, lost, n, LEVEL)].sum())


def spread(p: float, rows: float) -> Draw:
    """Beta scores of mean p; rows 1: heaped at the ends, rows 4: most in between."""
    return lambda random, draws, n: random.beta(rows * p, rows * (1 - p), (draws, n))


def mostly_right_or_wrong(p: float) -> Draw:
    """1 in a share p of the rows, 0 in half of the others, a low similarity in the rest; the mean is p + (1 - p) / 10."""

    def draw(random: np.random.Generator, draws: int, n: int) -> np.ndarray:
        similar = np.where(random.random((draws, n)) < 0.5, 0.0, random.beta(1, 4, (draws, n)))
        return np.where(random.random((draws, n)) < p, 1.0, similar)

    return draw


BEFORE = spread(1 / 3, 3)
MEANS: list[tuple[str, float, Draw]] = [
    *((f"beta, mean {p}, weight {rows}", p, spread(p, rows)) for rows in (1, 4) for p in SHARES),
    *((f"right in {p}, else little", p + (1 - p) / 10, mostly_right_or_wrong(p)) for p in (0.02, 0.1, 0.3, 0.8)),
]
MOVES: list[tuple[str, float, float, Draw]] = [
    *((f"{share:.0%} of the rows better", share, share / 3, spread(2 / 3, 3)) for share in (0.02, 0.05, 0.1, 0.3, 0.5)),
    *((f"{share:.0%} of the rows other, none better", share, 0.0, BEFORE) for share in (0.05, 0.1, 0.3, 0.5)),
    *(
        (f"{share:.0%} of the rows right", share, share * 2 / 3, lambda _, draws, n: np.ones((draws, n)))
        for share in (0.1, 0.3)
    ),
]


def covered(truth: float, limits: tuple[np.ndarray, np.ndarray]) -> float:
    low, high = limits
    return float(np.mean((low <= truth) & (truth <= high)))


def mean(n: int, truth: float, draw: Draw, draws: int, random: np.random.Generator) -> float:
    samples = draw(random, draws, n)
    return covered(truth, mean_limits(samples, np.zeros(draws), np.ones(draws)))


def mean_gain(n: int, changed: float, truth: float, draw: Draw, draws: int, random: np.random.Generator) -> float:
    """Coverage of the mean paired gain where only a share of the rows changes at all."""
    before = BEFORE(random, draws, n)
    after = np.where(random.random((draws, n)) < changed, draw(random, draws, n), before)
    start = before.mean(axis=1)
    return covered(truth, mean_limits(after - before, -start, 1 - start))


def cells(sizes: Iterable[int], draws: int) -> Iterator[Cell]:
    random = np.random.default_rng(2024)
    for n in sizes:
        for p in SHARES:
            yield {"of": "share", "n": n, "cell": f"share {p}", "covered": share(n, p)}
            for gain in (g for g in GAINS if p + g <= 1):
                name = f"share {p}, gain {gain}"
                yield {"of": "gain of a share", "n": n, "cell": name, "covered": share_gain(n, p, gain)}
        for name, truth, draw in MEANS:
            yield {"of": "mean", "n": n, "cell": name, "covered": mean(n, truth, draw, draws, random)}
        for name, changed, truth, draw in MOVES:
            mean_share = mean_gain(n, changed, truth, draw, draws, random)
            yield {"of": "gain of a mean", "n": n, "cell": name, "covered": mean_share}


def summary(measured: list[Cell], draws: int) -> dict[str, Any]:
    kinds: dict[str, list[float]] = {}
    for cell in measured:
        kinds.setdefault(cell["of"], []).append(cell["covered"])
    return {
        "draws": draws,
        "wanted": WANTED,
        "by_kind": {
            kind: {"cells": len(v), "lowest": round(min(v), 4), "mean": round(sum(v) / len(v), 4)}
            for kind, v in kinds.items()
        },
        "below": [cell for cell in measured if cell["covered"] < WANTED],
    }


def markdown(told: dict[str, Any]) -> str:
    """What each kind covers at least and on the average, then the cells that cover too little."""
    kinds = [[kind, *(str(v[k]) for k in ("cells", "lowest", "mean"))] for kind, v in told["by_kind"].items()]
    below = [[c["of"], str(c["n"]), c["cell"], f"{c['covered']:.3f}"] for c in told["below"]]
    tables = [markdown_table(["interval of a", "cells", "lowest", "mean"], kinds)]
    if below:
        tables.append(markdown_table(["interval of a", "rows", "cell", "covered"], below))
    else:
        tables.append(f"No cell is under {told['wanted']:.0%}.")
    return "\n\n".join(tables)


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="rows of a sample")
    parser.add_argument("--markdown", action="store_true", help="a list of the cells under 93 %% instead of JSON")
    options = parser.parse_args()
    began = time.process_time()
    told = summary(list(cells(options.sizes, options.draws)), options.draws)
    told["cpu_seconds"] = round(time.process_time() - began, 1)
    print(markdown(told) if options.markdown else json.dumps(told))


if __name__ == "__main__":
    main()
