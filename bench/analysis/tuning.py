"""Expected best after k tuning trials: what a tuner with a smaller budget would have found in the same search."""

import math

import numpy as np
import pandas as pd
from scipy.special import gammaln

from bench.analysis.bootstrap import Array, generator, resample
from bench.analysis.frames import groups
from bench.analysis.selection import FRESH_SWEEP

NUM_RESAMPLES = 1000
SEARCH = "search"


def order_weights(num_trials: int) -> Array:
    """Chance that the i-th smallest of N values is the smallest of k drawn without replacement: C(N-i, k-1) / C(N, k).

    Returns:
        `[N, N]`, row k-1, column i-1; each row sums to 1.
    """
    k = np.arange(1, num_trials + 1, dtype=float)[:, None]
    i = np.arange(1, num_trials + 1, dtype=float)[None, :]
    possible = num_trials - i >= k - 1
    left = np.where(possible, num_trials - i - k + 1, 0.0)
    log_weight = _log_choose(num_trials - i, k - 1, left) - _log_choose(num_trials, k, num_trials - k)
    return np.where(possible, np.exp(np.where(possible, log_weight, 0.0)), 0.0)


def _log_choose(n: Array | float, k: Array, rest: Array) -> Array:
    return np.asarray(gammaln(np.asarray(n) + 1.0) - gammaln(k + 1.0) - gammaln(rest + 1.0))


def expected_best(losses: Array) -> Array:
    """Expected smallest of k losses drawn without replacement, for k = 1..N, exactly.

    Args:
        losses: Finite, `[..., N]`.

    Returns:
        `[..., N]`, entry k-1 for k draws.
    """
    return np.asarray(np.sort(losses, axis=-1) @ order_weights(losses.shape[-1]).T)


def tuning_curves(used: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """`expected_best` of every search, with a 95 % percentile bootstrap over its trials.

    A trial is a cell, its loss the median over its seeds; a diverged one counts as an untrained model. Grids have no
    order in which a tuner would draw them, so only quasi-random searches (every swept value occurs once) are taken.

    Returns:
        setting, optimizer, sweep, k, expected, low, high, num_trials.
    """
    tuning = used[(used["sweep"] != "") & (used["sweep"] != FRESH_SWEEP)]
    parts = []
    for (setting, optimizer, sweep), group in groups(tuning, ["setting", "optimizer", "sweep"]):
        losses = group.groupby("cell")["finite_loss"].median().to_numpy()
        if len(losses) < 4 or not (sweep == SEARCH or is_search(group)):
            continue
        rng = generator(seed, f"tuning|{setting}|{optimizer}|{sweep}")
        resampled = expected_best(resample([losses], rng, NUM_RESAMPLES)[0])
        low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
        parts.append(pd.DataFrame({
            "setting": setting, "optimizer": optimizer, "sweep": sweep, "k": np.arange(1, len(losses) + 1),
            "expected": expected_best(losses), "low": low, "high": high, "num_trials": len(losses),
        }))  # fmt: skip
    columns = ["setting", "optimizer", "sweep", "k", "expected", "low", "high", "num_trials"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def is_search(runs: pd.DataFrame) -> bool:
    """Whether the cells of a sweep look drawn: two or more keys vary, each with as many values as there are cells."""
    cells = runs.drop_duplicates("cell")["hyperparameters"]
    varying: dict[str, set[float]] = {}
    for values in cells:
        for key, value in values.items():
            if isinstance(value, float) and math.isfinite(value):
                varying.setdefault(key, set()).add(value)
    return sum(len(seen) == len(cells) for seen in varying.values()) >= 2
