"""What verdicts compare: logarithms of final losses, and how much they vary between searches and between seeds."""

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bench.analysis.arrays import Array

# What a loss of 0, or below it by rounding, counts as: it has no logarithm, and what is smaller yet is rounding.
SMALLEST_LOSS = 1e-12
BELOW_NOISE = "below noise"  # what tables say in place of a deviation that `is_below_noise`


def log_loss(loss: ArrayLike) -> Array:
    """The natural logarithm of losses of any shape; inf and NaN are kept."""
    return np.log(np.maximum(np.asarray(loss, dtype=np.float64), SMALLEST_LOSS))


def deviations(runs: pd.DataFrame, column: str = "score") -> tuple[float, float]:
    """Standard deviation between searches and between seeds, from nested analysis of variance, failures left out.

    The first is that of what searches would give if each were scored on endless seeds: the variance of their means
    minus what their seeds explain, not below 0.

    Returns:
        Between searches (NaN with one), between the seeds of one search (NaN where every search has one).
    """
    groups = [values for _, values in runs.loc[np.isfinite(runs[column])].groupby("replicate")[column]]
    sizes = np.array([len(values) for values in groups], dtype=float)
    degrees = sizes.sum() - len(sizes)
    within = sum(((values - values.mean()) ** 2).sum() for values in groups) / degrees if degrees > 0 else math.nan
    if len(groups) < 2:
        return math.nan, math.sqrt(within)
    total = float(np.var([values.mean() for values in groups], ddof=1))
    explained = 0.0 if math.isnan(within) else within * float(np.mean(1 / sizes))
    return math.sqrt(max(total - explained, 0.0)), math.sqrt(within)


def is_below_noise(between: ArrayLike | None, within: ArrayLike | None) -> NDArray[np.bool_]:
    """Whether `deviations` of any shape, None for unknown ones, were cut off at 0 between searches: they are too small
    to be told from what seeds explain, and not shown to be 0.
    """
    searches, seeds = (np.asarray(values, dtype=np.float64) for values in (between, within))
    return np.equal(searches, 0) & np.greater(seeds, 0)
