"""Evidence about the difference of two streams of losses in [0, 1] that may be looked at after each observation.

Every function returns the logarithm of an e-process of a null hypothesis: a value that, while the hypothesis holds, reaches log(1/alpha)
at any time with probability alpha at most (Ville 1939), however often it is looked at. It is a function of counts and sums alone, so
the order of observations does not matter.

Two arms: a mixture of Bernoulli likelihoods (Robbins 1970) over the supremum of the likelihood under the hypothesis. Losses between 0
and 1 count as fractions: a variable in [0, 1] is sub-Bernoulli (Howard, Ramdas, McAuliffe, Sekhon 2021, "Time-uniform, nonparametric,
nonasymptotic confidence sequences", Annals of Statistics 49). Pairs: a mixture of bets on the sign of the difference (Waudby-Smith,
Ramdas 2023, "Estimating means of bounded random variables by betting", JRSS-B 86). Always valid inference for experiments: Johari,
Pekelis, Walsh 2015 (arXiv 1512.04922), whose normal approximation is not used, since losses of canaries are rare events.

All arguments are arrays or numbers that broadcast; `python -m tests.bench.canaries` has simulations.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln, logsumexp, xlogy

PRIOR = 0.5  # Jeffreys' prior of each arm's loss
BETS = np.geomspace(0.01, 0.99, 48)
HALVINGS = 50
EDGE = 1e-12


class Arms(NamedTuple):
    """Observations and the sum of their losses, of two arms in the same periods. The last axis has the periods."""

    n_first: np.ndarray
    loss_first: np.ndarray
    n_second: np.ndarray
    loss_second: np.ndarray

    @classmethod
    def of(cls, n_first: ArrayLike, loss_first: ArrayLike, n_second: ArrayLike, loss_second: ArrayLike) -> "Arms":
        given = (np.asarray(part, dtype=float) for part in (n_first, loss_first, n_second, loss_second))
        return cls(*(np.atleast_1d(part) for part in given))

    def swapped(self) -> "Arms":
        return Arms(self.n_second, self.loss_second, self.n_first, self.loss_first)

    def summed(self) -> "Arms":
        return Arms(*(part.sum(axis=-1, keepdims=True) for part in self))


def evidence_worse(arms: Arms, margin: float = 0.0) -> np.ndarray:
    """Against: in every period the second arm's mean loss is at most the first one's plus the margin.

    Each period has means of its own under the hypothesis, so a load that changes from period to period, together with the share of an
    arm, is no evidence. The alternative is half a mixture with the same means in all periods, and half one with means of their own.
    """
    whole = _mixture(arms.summed()).sum(axis=-1)
    parts = _mixture(arms).sum(axis=-1)
    return logsumexp([whole, parts], axis=0, b=0.5) - _supremum(arms, margin).sum(axis=-1)


def evidence_worse_pairs(n: ArrayLike, worse: ArrayLike, better: ArrayLike, margin: float = 0.0) -> np.ndarray:
    """Against: the mean difference in loss (second less first of a pair) is at most the margin.

    n: pairs. worse: sum of the differences above zero. better: sum of those below zero, without their sign.
    """
    count, up, down = (np.asarray(part, dtype=float)[..., None] for part in (n, worse, better))
    wealth = xlogy(up, 1 + BETS) + xlogy(down, 1 - BETS) - count * np.log1p(BETS * margin)
    return logsumexp(wealth, axis=-1) - np.log(len(BETS))


def difference_limits(arms: Arms, alpha: float) -> tuple[float, float]:
    """The confidence sequence of the difference in mean loss (second less first) at level 1 - alpha: margins that the evidence
    does not exclude."""
    needed = np.log(2 / alpha)
    low = _last_excluded(lambda margin: float(evidence_worse(arms, margin)) >= needed)
    high = -_last_excluded(lambda margin: float(evidence_worse(arms.swapped(), margin)) >= needed)
    return low, high


def pair_limits(n: float, worse: float, better: float, alpha: float) -> tuple[float, float]:
    """The same for the mean difference of pairs."""
    needed = np.log(2 / alpha)
    low = _last_excluded(lambda margin: float(evidence_worse_pairs(n, worse, better, margin)) >= needed)
    high = -_last_excluded(lambda margin: float(evidence_worse_pairs(n, better, worse, margin)) >= needed)
    return low, high


def _last_excluded(excluded: Callable[[float], bool]) -> float:
    """The largest margin in [-1, 1] that is excluded; -1 where none is. Evidence falls as the margin grows."""
    low, high = -1.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if excluded(middle) else (low, middle)
    return low


def _mixture(arms: Arms) -> np.ndarray:
    """The log of the likelihood, averaged over Jeffreys' prior of both means."""
    prior = betaln(PRIOR, PRIOR)
    first = betaln(arms.loss_first + PRIOR, arms.n_first - arms.loss_first + PRIOR) - prior
    return first + betaln(arms.loss_second + PRIOR, arms.n_second - arms.loss_second + PRIOR) - prior


def _supremum(arms: Arms, margin: float) -> np.ndarray:
    """The log of the largest likelihood with mean_second <= mean_first + margin."""
    first, second = _mean(arms.loss_first, arms.n_first), _mean(arms.loss_second, arms.n_second)
    free = _likelihood(arms.loss_first, arms.n_first, first) + _likelihood(arms.loss_second, arms.n_second, second)
    at = _pooled(arms) if margin == 0 else _on_the_border(arms, margin)
    tied = _likelihood(arms.loss_first, arms.n_first, at) + _likelihood(arms.loss_second, arms.n_second, at + margin)
    empty = (arms.n_first == 0) | (arms.n_second == 0)
    return np.where(empty | (second <= first + margin), free, tied)


def _pooled(arms: Arms) -> np.ndarray:
    return _mean(arms.loss_first + arms.loss_second, arms.n_first + arms.n_second)


def _on_the_border(arms: Arms, margin: float) -> np.ndarray:
    """The first arm's mean that is likeliest when the second one's is larger by the margin: the root of a falling derivative."""
    low = np.full(np.shape(arms.n_first), max(0.0, -margin) + EDGE)
    high = np.full(np.shape(arms.n_first), min(1.0, 1 - margin) - EDGE)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        slope = arms.loss_first / middle - (arms.n_first - arms.loss_first) / (1 - middle)
        other = middle + margin
        slope += arms.loss_second / other - (arms.n_second - arms.loss_second) / (1 - other)
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    return (low + high) / 2


def _likelihood(loss: np.ndarray, n: np.ndarray, mean: np.ndarray) -> np.ndarray:
    inside = np.clip(mean, 0.0, 1.0)
    return xlogy(loss, inside) + xlogy(n - loss, 1 - inside)


def _mean(loss: np.ndarray, n: np.ndarray) -> np.ndarray:
    return loss / np.maximum(n, 1.0)
