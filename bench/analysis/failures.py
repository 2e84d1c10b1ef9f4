"""Failure is an outcome of its own: how often an arm fails, and whether it fails more often than another."""

from functools import lru_cache

from scipy import stats

from bench.analysis.intervals import ALPHA


@lru_cache
def failure_interval(num_failed: int, num_units: int, level: float = 1 - ALPHA) -> tuple[float, float]:
    """The exact interval of a failure rate (Clopper & Pearson 1934); 0 to 1 where nothing was tried."""
    if num_units == 0:
        return 0.0, 1.0
    low, high = stats.binomtest(num_failed, num_units).proportion_ci(level, method="exact")
    return float(low), float(high)


@lru_cache
def failure_p_value(num_failed: int, num_units: int, other_failed: int, other_units: int) -> float:
    """Two-sided p-value of "both fail equally often": Fisher's exact test (Fisher 1935)."""
    if min(num_units, other_units) == 0:
        return 1.0
    table = [[num_failed, num_units - num_failed], [other_failed, other_units - other_failed]]
    return float(stats.fisher_exact(table).pvalue)


@lru_cache
def smallest_p_value(num_failed: int, num_units: int, other_failed: int, other_units: int) -> float:
    """The smallest p-value that so many failures in all could have given, however they had fallen.

    Where it is above the level, the test cannot reject and need not be paid for in a correction (Tarone 1990).
    """
    total = num_failed + other_failed
    splits = range(max(0, total - other_units), min(total, num_units) + 1)
    return min(failure_p_value(count, num_units, total - count, other_units) for count in splits)
