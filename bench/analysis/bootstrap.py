"""Resampling, seeded: the same numbers in every process, the global random state untouched."""

import zlib

import numpy as np

from bench.analysis.arrays import Array

NUM_RESAMPLES = 2000


def generator(seed: int, label: str) -> np.random.Generator:
    """A generator of its own for each question, so that no figure depends on the order in which they are asked."""
    return np.random.default_rng([seed, zlib.crc32(label.encode())])


def resample_means(values: Array, rng: np.random.Generator, num_resamples: int = NUM_RESAMPLES) -> Array:
    """Means over units drawn with replacement, what stands in one row (all optimizers on one unit) kept together.

    Resampled means of n units vary as if the variance were that of n - 1 degrees of freedom divided by n; they are
    spread by sqrt(n / (n - 1)) to make up for it, which matters at n = 3 to 10.

    Args:
        values: `[units, columns]`, NaN where there is none.
        rng: From `generator`.
        num_resamples: R.

    Returns:
        `[R, columns]`; NaN where a resample holds nothing but NaN.
    """
    count = len(values)
    known = ~np.isnan(values)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=num_resamples).astype(float)
    with np.errstate(invalid="ignore"):
        means = (weights @ np.where(known, values, 0.0)) / (weights @ known)
        center = np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
    return np.asarray(center + (means - center) * np.sqrt(count / (count - 1)))
