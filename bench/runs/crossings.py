"""When a curve first meets a threshold."""

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]


def first_crossings(values: Array, times: Array, thresholds: Array, mode: str) -> Array:
    """The earliest time at which `values` is at or past each threshold.

    Args:
        values: Metric at each evaluation, `[n]`, in any order; NaN is past nothing.
        times: Step or second of each evaluation, `[n]`.
        thresholds: `[t]`.
        mode: "min" (at or below) or "max" (at or above).

    Returns:
        Times `[t]`, inf where the threshold is never met.
    """
    sign = 1.0 if mode == "min" else -1.0
    valid = np.isfinite(values) & np.isfinite(times)
    order = np.argsort(times[valid], kind="stable")
    ordered = np.append(times[valid][order], math.inf)
    # The best value so far never rises: minus it is sorted, and the first crossing a bisection.
    best = np.minimum.accumulate(sign * values[valid][order])
    return ordered[np.searchsorted(-best, -sign * np.asarray(thresholds), side="left")]
