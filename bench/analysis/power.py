"""How small a difference the units at hand can show, and how many would resolve the margin that matters."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats

from bench.analysis.arrays import Array
from bench.analysis.intervals import ALPHA, MIN_UNITS

POWER = 0.8
MAX_UNITS = 10_000
UPPER_LEVEL = 0.8  # of the limit of sigma: four of five plans made with it reach their power (Browne 1995)
NUM_POINTS = 2000


def paired_power(difference: float, sigma: float, num_pairs: int, alpha: float = ALPHA) -> float:
    """Chance that a two-sided paired t-test finds `difference`.

    The noncentral t distribution, integrated over the quantiles of the variance: scipy's `nct.cdf` returns NaN in its
    far tail.

    Args:
        difference: True mean difference.
        sigma: Standard deviation of the paired differences, above 0.
        num_pairs: n >= 2.
        alpha: Level of the test.
    """
    shift = abs(difference) / sigma * math.sqrt(num_pairs)
    threshold = stats.t.ppf(1 - alpha / 2, num_pairs - 1) * _relative_deviations(num_pairs - 1)
    return float(np.mean(special.ndtr(shift - threshold) + special.ndtr(-shift - threshold)))


@lru_cache
def _relative_deviations(degrees: int) -> Array:
    """Equally likely values of s / sigma, `[NUM_POINTS]`."""
    quantiles = (np.arange(NUM_POINTS) + 0.5) / NUM_POINTS
    return np.asarray(np.sqrt(stats.chi2.ppf(quantiles, degrees) / degrees))


def detectable_difference(sigma: float, num_pairs: int, alpha: float = ALPHA) -> float:
    """The smallest true difference that is found with a chance of `POWER`; inf with too few pairs to decide at all."""
    if num_pairs < MIN_UNITS or not math.isfinite(sigma):
        return math.inf
    return sigma * _detectable_in_sigmas(num_pairs, alpha) if sigma > 0 else 0.0


@lru_cache
def _detectable_in_sigmas(num_pairs: int, alpha: float) -> float:
    high = 1.0
    while paired_power(high, 1.0, num_pairs, alpha) < POWER:
        high *= 2
    return float(optimize.brentq(lambda d: paired_power(d, 1.0, num_pairs, alpha) - POWER, 0.0, high))


def units_needed(difference: float, sigma: float, alpha: float = ALPHA, most: int = MAX_UNITS) -> float:
    """The fewest pairs that find a difference with a chance of `POWER`.

    Returns:
        A whole number; inf beyond `most`, NaN where the difference or sigma is not known.
    """
    if not (math.isfinite(difference) and math.isfinite(sigma)):
        return math.nan
    if sigma == 0.0:
        return MIN_UNITS
    sizes = range(MIN_UNITS, most + 1)
    position = bisect_left(sizes, POWER, key=lambda size: paired_power(difference, sigma, size, alpha))
    return sizes[position] if position < len(sizes) else math.inf


def pooled_sigma(differences: Sequence[Array]) -> float:
    """Upper limit of the standard deviation of paired differences, pooled over the comparisons with one baseline.

    Two differences that share the baseline are correlated by a half where all arms are equally noisy, and their
    variances by a quarter: k comparisons are worth k / (1 + (k - 1) / 4) independent ones.

    Args:
        differences: Paired differences `[units]` of each comparison.

    Returns:
        The limit at `UPPER_LEVEL`; NaN where no comparison has two units.
    """
    usable = [values for values in differences if len(values) >= 2]
    degrees = sum(len(values) - 1 for values in usable)
    if not degrees:
        return math.nan
    variance = sum(values.var(ddof=1) * (len(values) - 1) for values in usable) / degrees
    return upper_sigma(math.sqrt(variance), degrees / (1 + (len(usable) - 1) / 4))


def upper_sigma(sigma: float, degrees: float) -> float:
    """The limit at `UPPER_LEVEL` of a standard deviation that was estimated with so many degrees of freedom."""
    return sigma * math.sqrt(degrees / stats.chi2.ppf(1 - UPPER_LEVEL, degrees))
