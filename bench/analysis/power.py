"""How small a difference the seeds at hand can show, and how many more would be needed."""

import math
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import optimize, stats

from bench.analysis.intervals import ALPHA, MIN_PAIRS

POWER = 0.8
MAX_SEEDS = 10_000


def paired_power(difference: float, sigma: float, num_pairs: int, alpha: float = ALPHA) -> float:
    """Chance that a two-sided paired t-test finds `difference`, from the noncentral t distribution.

    Args:
        difference: True mean difference.
        sigma: Standard deviation of the paired differences, above 0.
        num_pairs: n >= 2.
        alpha: Level of the test.
    """
    degrees = num_pairs - 1
    shift = abs(difference) / sigma * math.sqrt(num_pairs)
    critical = stats.t.ppf(1 - alpha / 2, degrees)
    found = stats.nct.sf(critical, degrees, shift) + stats.nct.cdf(-critical, degrees, shift)
    # Far out scipy gives up with NaN, where the answer is certain.
    return float(found) if np.isfinite(found) else 1.0


def detectable_difference(sigma: float, num_pairs: int, alpha: float = ALPHA) -> float:
    """The smallest true difference that is found with a chance of `POWER`; inf with too few pairs to decide at all."""
    if num_pairs < MIN_PAIRS or not math.isfinite(sigma):
        return math.inf
    if sigma == 0.0:
        return 0.0
    return sigma * _detectable_in_sigmas(num_pairs, alpha)


@lru_cache
def _detectable_in_sigmas(num_pairs: int, alpha: float) -> float:
    low, high = 0.0, 1.0
    while paired_power(high, 1.0, num_pairs, alpha) < POWER:
        low, high = high, 2 * high
    return float(optimize.brentq(lambda d: paired_power(d, 1.0, num_pairs, alpha) - POWER, low, high))


def pairs_needed(difference: float, sigma: float, alpha: float = ALPHA) -> float:
    """The fewest paired seeds that find `difference` with a chance of `POWER`; inf beyond `MAX_SEEDS`."""
    if not (math.isfinite(difference) and math.isfinite(sigma)) or difference == 0.0:
        return math.inf
    if sigma == 0.0 or paired_power(difference, sigma, MIN_PAIRS, alpha) >= POWER:
        return MIN_PAIRS
    if paired_power(difference, sigma, MAX_SEEDS, alpha) < POWER:
        return math.inf
    low, high = MIN_PAIRS, MAX_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if paired_power(difference, sigma, middle, alpha) >= POWER else (middle, high)
    return high


def noise_floor(final: pd.DataFrame) -> pd.DataFrame:
    """Seed-to-seed standard deviation of the final loss, pooled over the optimizers of a setting at their best cells.

    Args:
        final: From `selection.final_runs`.

    Returns:
        setting, sigma, num_runs, num_optimizers, and `detectable_3`, `detectable_5`, `detectable_10`: the smallest
        differences between two optimizers that so many seeds find if their runs are no more alike on one seed than on
        two.
    """
    rows = []
    for setting, group in final[final["status"] == "completed"].groupby("setting"):
        by_optimizer = group.groupby("optimizer")["finite_loss"].agg(["var", "count"])
        by_optimizer = by_optimizer[by_optimizer["count"] >= 2]
        degrees = by_optimizer["count"] - 1
        sigma = math.sqrt((by_optimizer["var"] * degrees).sum() / degrees.sum()) if len(by_optimizer) else math.nan
        row = {"setting": setting, "sigma": sigma, "num_runs": len(group), "num_optimizers": len(by_optimizer)}
        for count in (3, 5, 10):
            row[f"detectable_{count}"] = detectable_difference(sigma * math.sqrt(2), count)
        rows.append(row)
    columns = ["setting", "sigma", "num_runs", "num_optimizers", "detectable_3", "detectable_5", "detectable_10"]
    return pd.DataFrame(rows, columns=columns)
