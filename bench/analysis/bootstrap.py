"""Percentile bootstrap, seeded and stratified: the same numbers in every process, the global random state untouched."""

import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NUM_RESAMPLES = 2000


def generator(seed: int, label: str) -> np.random.Generator:
    """A generator of its own for each question, so that no interval depends on the order in which they are asked."""
    return np.random.default_rng([seed, zlib.crc32(label.encode())])


def resample(strata: Sequence[Array], rng: np.random.Generator, num_resamples: int = NUM_RESAMPLES) -> list[Array]:
    """Rows of each stratum drawn with replacement, as many as it has.

    Args:
        strata: One array per task, `[runs]` or `[runs, ...]`; what stands in one row (a pair) stays together.
        rng: Source of all randomness.
        num_resamples: R.

    Returns:
        One array `[R, runs, ...]` per stratum.
    """
    return [values[rng.integers(0, len(values), size=(num_resamples, len(values)))] for values in strata]


def percentile_interval(
    strata: Sequence[Array],
    statistic: Callable[[list[Array]], Array],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
) -> tuple[float, float]:
    """Percentile interval (Efron & Tibshirani 1993, section 13.3), resampled within strata (Agarwal et al. 2021).

    Args:
        strata: As in `resample`; NaN-free.
        statistic: Maps the resampled strata to one value per resample, shape `[R]`.
        rng: From `generator`.
        level: Coverage.
        num_resamples: R.

    Returns:
        Low and high end.
    """
    values = statistic(resample(strata, rng, num_resamples))
    tail = (1 - level) / 2
    # inverted_cdf interpolates nothing, so that "never" (inf) can be an end of the interval.
    low, high = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def mean_of_strata(strata: list[Array]) -> Array:
    """The mean over strata of their means: `[R, runs]` each to `[R]`. Every task weighs the same."""
    return np.asarray(np.mean([values.mean(axis=1) for values in strata], axis=0))
