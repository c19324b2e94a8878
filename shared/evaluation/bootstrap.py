"""The BCa bootstrap for the means of many samples at once. The draws depend on the sample size only: equal input, equal output.

docs/adr/0015-intervals.md compares it with scipy.stats.bootstrap.
"""

import numpy as np
from scipy.special import ndtr, ndtri

RESAMPLES = 4999
SEED = 20241
AT_ONCE = 2_000_000  # drawn rows in memory: 16 MB
DIGITS = 12  # rounding of means, so that sums in another order still tie


def resampled_means(samples: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Means of rows drawn with replacement, ascending in each column. samples: (k, n); returns (resamples, k)."""
    k, n = samples.shape
    random = np.random.default_rng(SEED)
    means = np.empty((resamples, k))
    for start in range(0, resamples, size := max(1, AT_ONCE // n)):
        drawn = random.integers(0, n, (min(size, resamples - start), n))
        places = drawn + n * np.arange(len(drawn))[:, None]
        times = np.bincount(places.ravel(), minlength=drawn.size).reshape(drawn.shape)
        means[start : start + len(drawn)] = times.astype(float) @ samples.T / n
    return np.sort(means.round(DIGITS), axis=0)


def bca(samples: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """BCa limits (Efron 1987, JASA 82:171-185) of each row's mean, as scipy.stats.bootstrap gives them.

    samples: (k, n); returns two arrays of k, NaN where a sample is constant or all its resamples lie on one side.
    """
    means, value = resampled_means(samples), samples.mean(axis=1)
    below, up_to = means < value.round(DIGITS), means <= value.round(DIGITS)
    with np.errstate(divide="ignore", invalid="ignore"):
        bias = ndtri((below.mean(axis=0) + up_to.mean(axis=0)) / 2)
        slope = acceleration(samples)
        limits = []
        for tail in ((1 - level) / 2, (1 + level) / 2):
            moved = bias + ndtri(tail)
            limits.append(_quantile(means, ndtr(bias + moved / (1 - slope * moved))))
    return limits[0], limits[1]


def acceleration(samples: np.ndarray) -> np.ndarray:
    """Per row: a sixth of the mean's skewness, from the jackknife. samples: (k, n). NaN for a constant row."""
    deviations = samples - samples.mean(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (deviations**3).sum(axis=1) / (6 * (deviations**2).sum(axis=1) ** 1.5)


def _quantile(ascending: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """One quantile per column, with linear interpolation."""
    known = np.isfinite(shares)
    place = np.where(known, shares, 0.0) * (len(ascending) - 1)
    left = np.minimum(place.astype(int), len(ascending) - 2)
    columns = np.arange(ascending.shape[1])
    low, high = ascending[left, columns], ascending[left + 1, columns]
    return np.where(known, low + (place - left) * (high - low), np.nan)
