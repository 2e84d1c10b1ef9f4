"""How far a hyperparameter can move around its best value before the loss worsens, and what seeds leave open of it."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.analysis.arrays import Array
from bench.analysis.bootstrap import generator
from bench.analysis.frames import each
from bench.analysis.intervals import ALPHA, MIN_UNITS

NUM_WIDTHS = 400  # resamples of seeds


def flat_width(values: Array, losses: Array, delta: float) -> dict[str, float | bool]:
    """How far a key can move around its best value before the loss worsens by more than `delta`.

    The curve is taken as straight between neighbouring grid points; towards a diverged neighbour the region ends at the
    last finite point. Where the region meets the end of the grid, the width is only a lower bound.

    Args:
        values: Positions `[n]`, ascending, already log10 where the key is logarithmic.
        losses: `[n]`; inf for diverged.
        delta: Loss units, not below 0.

    Returns:
        low, high (ends of the region), width, open_low, open_high (the region meets the end of the grid).
    """
    best = int(np.argmin(losses))
    limit = losses[best] + delta
    if not math.isfinite(limit):
        return {"low": math.nan, "high": math.nan, "width": math.nan, "open_low": False, "open_high": False}
    low, open_low = _walk(values[best::-1], losses[best::-1], limit)
    high, open_high = _walk(values[best:], losses[best:], limit)
    return {"low": low, "high": high, "width": high - low, "open_low": open_low, "open_high": open_high}


def _walk(values: Array, losses: Array, limit: float) -> tuple[float, bool]:
    for i in range(1, len(values)):
        if losses[i] > limit:
            if not math.isfinite(losses[i]):
                return float(values[i - 1]), False
            share = (limit - losses[i - 1]) / (losses[i] - losses[i - 1])
            return float(values[i - 1] + share * (values[i] - values[i - 1])), False
    return float(values[-1]), True


def width_interval(
    position: Array, tried: Sequence[pd.DataFrame], delta: float, level: float = 1 - ALPHA
) -> tuple[float, float, int]:
    """The interval that seeds leave to a flat width: percentiles of the widths that resampled seeds would have given.

    A seed is drawn with its losses at every value, as paired as they are; at each value the best cell is chosen anew.

    Args:
        position: As for `flat_width`.
        tried: The cells of each value, from `sweep_cells`.
        delta: As for `flat_width`.
        level: Nominal; with three to five seeds a percentile interval covers rather 80 % than 95 %.

    Returns:
        Its ends, NaN with fewer than `MIN_UNITS` seeds that every cell was run on; the number of these seeds.
    """
    runs = [[dict(zip(cell.seeds, cell.losses, strict=True)) for cell in each(cells)] for cells in tried]
    common = sorted(set.intersection(*(set(losses) for cells in runs for losses in cells)))
    if len(common) < MIN_UNITS:
        return math.nan, math.nan, len(common)
    rng = generator(0, "flat width")
    drawn = rng.integers(len(common), size=(NUM_WIDTHS, len(common)))
    curves = np.array([_best_losses(cells, common, drawn) for cells in runs]).T
    widths = np.array([flat_width(position, curve, delta)["width"] for curve in curves])
    if np.isnan(widths).all():
        return math.nan, math.nan, len(common)
    low, high = np.nanquantile(widths, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), len(common)


def _best_losses(cells: list[dict[int, float]], seeds: list[int], drawn: NDArray[np.int64]) -> Array:
    """The median loss of the cell with the lowest mean, for each row of drawn positions of seeds, `[rows]`."""
    losses = np.array([[cell[seed] for seed in seeds] for cell in cells])[:, drawn]
    best = losses.mean(axis=-1).argmin(axis=0)
    return np.asarray(np.median(losses, axis=-1)[best, np.arange(len(drawn))])
