"""Which intervals cover what at which width: `python -m tests.bench.intervals` prints the table of docs/adr/0015.

The cells are those of tests.bench.coverage. Widths are means over the cells, in percent of the method that is used;
the last column is over the cells in which the first method of the kind covers enough already.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import beta, binom, norm, t

from shared.evaluation import statistics
from shared.evaluation.bootstrap import bca
from shared.evaluation.statistics import LEVEL, mean_limits, share_interval, wilson
from tests.bench.coverage import BEFORE, DRAWS, MEANS, MOVES, SHARES, SIZES, WANTED, covered, markdown_table

Limits = tuple[np.ndarray, np.ndarray]
TAIL = (1 - LEVEL) / 2
Z = -float(norm.ppf(TAIL))


def hull(*several: Limits) -> Limits:
    return np.fmin.reduce([low for low, _ in several]), np.fmax.reduce([high for _, high in several])


# shares: (successes 0 to n, n) -> limits


def wilsons(k: np.ndarray, n: int) -> Limits:
    low, high = zip(*(wilson(int(each), n) for each in k), strict=True)
    return np.array(low), np.array(high)


def jeffreys(k: np.ndarray, n: int) -> Limits:
    low, high = beta.ppf(TAIL, k + 0.5, n - k + 0.5), beta.ppf(1 - TAIL, k + 0.5, n - k + 0.5)
    return np.where(k == 0, 0.0, low), np.where(k == n, 1.0, high)


def agresti_coull(k: np.ndarray, n: int) -> Limits:
    rows = n + Z**2
    centre = (k + Z**2 / 2) / rows
    half = Z * np.sqrt(centre * (1 - centre) / rows)
    return np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)


def clopper_pearson(k: np.ndarray, n: int) -> Limits:
    low, high = beta.ppf(TAIL, np.maximum(k, 0.5), n - k + 1), beta.ppf(1 - TAIL, k + 1, np.maximum(n - k, 0.5))
    return np.where(k == 0, 0.0, low), np.where(k == n, 1.0, high)


def mid_p(k: np.ndarray, n: int) -> Limits:
    def limit(successes: int, tail: float) -> float:
        """The share at which more than so many successes, and half of just so many, have this probability."""

        def off(p: float) -> float:
            return float(binom.sf(successes, n, p) + binom.pmf(successes, n, p) / 2) - tail

        root: Any = brentq(off, 0.0, 1.0)
        return float(root)

    low = [0.0 if each == 0 else limit(each, TAIL) for each in k]
    high = [1.0 if each == n else limit(each, 1 - TAIL) for each in k]
    return np.array(low), np.array(high)


def used(k: np.ndarray, n: int) -> Limits:
    intervals = [share_interval(int(each), n) for each in k]
    return np.array([each.low for each in intervals]), np.array([each.high for each in intervals])


OF_SHARES: dict[str, Callable[[np.ndarray, int], Limits]] = {
    "Wilson": wilsons,
    "Jeffreys": jeffreys,
    "mid-P Clopper-Pearson": mid_p,
    "Agresti-Coull": agresti_coull,
    "Clopper-Pearson": clopper_pearson,
    "hull of Wilson and mid-P": lambda k, n: hull(wilsons(k, n), mid_p(k, n)),
    "**hull of Wilson and Jeffreys**": used,
}


# means: (samples, lowest, highest, their BCa limits) -> limits


def effective_wilson(samples: np.ndarray, lowest: np.ndarray, highest: np.ndarray, _: Limits) -> Limits:
    """Wilson's limits for the place on the scale, with as many rows as a share would need for the same standard error."""
    n, scale = samples.shape[1], highest - lowest
    place = (samples.mean(axis=1) - lowest) / scale
    spread = samples.var(axis=1, ddof=1) / scale**2
    rows = n * np.divide(place * (1 - place), spread, out=np.full_like(spread, np.inf), where=spread > 0)
    q2 = float(t.ppf(1 - TAIL, n - 1)) ** 2
    centre = (place + q2 / (2 * rows)) / (1 + q2 / rows)
    half = np.sqrt(q2 * place * (1 - place) / rows + (q2 / (2 * rows)) ** 2) / (1 + q2 / rows)
    return lowest + scale * (centre - half), lowest + scale * (centre + half)


OF_MEANS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, Limits], Limits]] = {
    "BCa": lambda _, __, ___, boot: boot,
    "Student": lambda s, _, __, ___: statistics.student(s, LEVEL),
    "Wilson, effective rows": effective_wilson,
    "hull of BCa and Student": lambda s, _, __, boot: hull(boot, statistics.student(s, LEVEL)),
    "Student, half a row more at each end": lambda s, low, high, _: statistics.with_unseen(s, low, high, LEVEL),
    "Student, a row more at each end": lambda s, low, high, _: statistics.with_unseen(s, low, high, LEVEL, 1.0),
    "**hull of BCa, Student and the one with half rows**": lambda s, low, high, _: mean_limits(s, low, high),
}


def shares() -> dict[str, list[tuple[float, float]]]:
    """Per method and cell: exact coverage and expected width."""
    cells: dict[str, list[tuple[float, float]]] = {name: [] for name in OF_SHARES}
    for n in SIZES:
        k = np.arange(n + 1)
        for name, method in OF_SHARES.items():
            low, high = method(k, n)
            for p in SHARES:
                likely = binom.pmf(k, n, p)
                cells[name].append((float(likely[(low <= p) & (p <= high)].sum()), float(likely @ (high - low))))
    return cells


def means(draws: int) -> dict[str, list[tuple[float, float]]]:
    """Per method and cell: share of covered truths and mean width, over the same samples."""
    random, cells = np.random.default_rng(2024), {name: [] for name in OF_MEANS}

    def note(truth: float, samples: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> None:
        boot = bca(samples, LEVEL)
        for name, method in OF_MEANS.items():
            low, high = method(samples, lowest, highest, boot)
            low, high = np.where(np.isfinite(low), low, lowest), np.where(np.isfinite(high), high, highest)
            cells[name].append((covered(truth, (low, high)), float(np.mean(high - low))))

    for n in SIZES:
        for _, truth, draw in MEANS:
            note(truth, draw(random, draws, n), np.zeros(draws), np.ones(draws))
        for _, changed, truth, draw in MOVES:
            before = BEFORE(random, draws, n)
            after = np.where(random.random((draws, n)) < changed, draw(random, draws, n), before)
            start = before.mean(axis=1)
            note(truth, after - before, -start, 1 - start)
    return cells


def rows(of: str, by_method: dict[str, list[tuple[float, float]]]) -> list[list[str]]:
    first, *_, chosen = by_method.values()
    easy = [covers >= WANTED for covers, _ in first]
    table = []
    for name, cells in by_method.items():
        coverage = [each for each, _ in cells]
        widths = np.array([mine / its for (_, mine), (_, its) in zip(cells, chosen, strict=True)])
        below = sum(each < WANTED for each in coverage)
        table.append(
            [
                of,
                name,
                f"{below} of {len(cells)}",
                f"{min(coverage):.3f}",
                f"{widths.mean():.0%}",
                f"{widths[easy].mean():.0%}",
            ]
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=DRAWS)
    draws = parser.parse_args().draws
    head = ["interval of a", "method", f"cells under {WANTED:.0%}", "lowest", "width", "where the first holds"]
    print(markdown_table(head, rows("share", shares()) + rows("mean", means(draws))))


if __name__ == "__main__":
    main()
