"""The rule that decides: a paired difference counts only where two intervals both exclude zero.

With few seeds the percentile bootstrap is too narrow: with n = 3 it excludes zero in a quarter of all A/A comparisons.
The studentised interval keeps its level at any n where the differences are roughly normal, and errs to the safe side
where their tails are heavier. The bootstrap stands next to it against skewed differences; the interval shown is the
envelope of both.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from bench.analysis.bootstrap import Array, generator, mean_of_strata, percentile_interval

ALPHA = 0.05
MIN_PAIRS = 3


def paired_interval(strata: Sequence[Array], *, seed: int, label: str) -> dict[str, Any]:
    """Mean paired difference with its intervals at 95 % and the p-value of the studentised one.

    Args:
        strata: Differences by seed, one array `[n]` per task.
        seed: Of the bootstrap.
        label: Names the question (see `generator`).

    Returns:
        difference, low, high (the envelope), t_low, t_high, bootstrap_low, bootstrap_high, p_value, num_pairs (the
        fewest of a stratum). The intervals are infinite and the p-value is 1 with fewer than `MIN_PAIRS` pairs in a
        stratum.
    """
    num_pairs = min((len(values) for values in strata), default=0)
    difference = float(np.mean([values.mean() for values in strata])) if num_pairs else math.nan
    if num_pairs < MIN_PAIRS:
        ends = dict.fromkeys(("low", "t_low", "bootstrap_low"), -math.inf)
        ends |= dict.fromkeys(("high", "t_high", "bootstrap_high"), math.inf)
        return {"difference": difference, **ends, "p_value": 1.0, "num_pairs": num_pairs}
    t_low, t_high, p_value = studentised_interval(strata)
    low, high = percentile_interval(strata, mean_of_strata, rng=generator(seed, label), level=1 - ALPHA)
    return {
        "difference": difference,
        "low": min(t_low, low),
        "high": max(t_high, high),
        "t_low": t_low,
        "t_high": t_high,
        "bootstrap_low": low,
        "bootstrap_high": high,
        "p_value": p_value,
        "num_pairs": num_pairs,
    }


def studentised_interval(strata: Sequence[Array]) -> tuple[float, float, float]:
    """Student's t for one stratum, Welch and Satterthwaite's degrees of freedom for the mean over several.

    Returns:
        Low, high, and the two-sided p-value of "the mean is zero".
    """
    num_strata = len(strata)
    mean = float(np.mean([values.mean() for values in strata]))
    parts = np.array([values.var(ddof=1) / len(values) for values in strata]) / num_strata**2
    variance = float(parts.sum())
    if variance == 0.0:
        return mean, mean, 1.0 if mean == 0.0 else 0.0
    # Relative to the largest part, so that tiny variances do not vanish when squared.
    shares = parts / parts.max()
    degrees = float(shares.sum() ** 2 / sum(s**2 / (len(v) - 1) for s, v in zip(shares, strata, strict=True)))
    error = math.sqrt(variance)
    reach = error * float(stats.t.ppf(1 - ALPHA / 2, degrees))
    return mean - reach, mean + reach, float(2 * stats.t.sf(abs(mean) / error, degrees))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm 1979): the family-wise error stays at `ALPHA` over all comparisons made."""
    order = np.argsort(p_values, kind="stable")
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
