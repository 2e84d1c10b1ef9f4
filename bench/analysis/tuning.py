"""Expected best after k tuning trials: what a tuner with a smaller budget would have found in the same search."""

import math

import numpy as np
import pandas as pd
from scipy.special import gammaln

from bench.analysis.arrays import Array
from bench.analysis.frames import groups
from bench.analysis.intervals import mean_interval

MIN_TRIALS = 4
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


def tuning_curves(used: pd.DataFrame) -> pd.DataFrame:
    """`expected_best` of every search: mean over its replicates, and their range.

    The range and no interval: the least of several losses is skewed, and Student's interval of its mean covers 89 %
    where noise has heavy tails.

    A trial is a cell, its loss the median over its tuning seeds; a diverged one counts as an untrained model. Grids
    have no order in which a tuner would draw them, so only quasi-random searches are taken.

    Returns:
        setting, optimizer, sweep, k, expected, low, high (least and largest; NaN with one search),
        num_trials, num_searches.
    """
    tuning = used[(used["sweep"] != "") & (used["stage"] == "tuning")]
    keys = ["setting", "optimizer", "sweep"]
    searches: dict[tuple[str, ...], list[Array]] = {}
    for (*key, _), group in groups(tuning, [*keys, "replicate"]):
        losses = group.groupby("cell")["finite_loss"].median().to_numpy()
        if len(losses) >= MIN_TRIALS and is_search(group):
            searches.setdefault(tuple(key), []).append(expected_best(losses))
    parts = []
    for key, curves in searches.items():
        length = min(map(len, curves))
        values = np.array([curve[:length] for curve in curves])
        ends = (values.min(axis=0), values.max(axis=0)) if len(curves) > 1 else (math.nan, math.nan)
        parts.append(pd.DataFrame({
            **dict(zip(keys, key, strict=True)), "k": np.arange(1, length + 1), "expected": values.mean(axis=0),
            "low": ends[0], "high": ends[1], "num_trials": length, "num_searches": len(curves),
        }))  # fmt: skip
    columns = [*keys, "k", "expected", "low", "high", "num_trials", "num_searches"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def tuned_against_default(used: pd.DataFrame, final: pd.DataFrame) -> pd.DataFrame:
    """What a search gains over the optimizer's defaults, which every one of its replicates tries first.

    Validation losses: of the chosen cell on fresh seeds, which nothing was chosen by, and of the defaults, which were
    not chosen either, where the search tried them. The cell that all searches share is the one of the defaults.

    Args:
        used: Comparable runs.
        final: From `selection.final_runs`.

    Returns:
        setting, optimizer, num_searches, difference (of logarithms, tuned - default, below 0 is a gain), low, high
        (95 %; infinite with fewer than three searches); only where fresh seeds and two searches are.
    """
    keys = ["setting", "optimizer"]
    fresh = dict(groups(final[final["fresh"]], keys))
    rows = []
    for key, tried in groups(used[used["stage"] == "tuning"], keys):
        searches = tried.groupby("cell")["replicate"].nunique()
        shared = searches.index[(searches == tried["replicate"].nunique()) & (searches > 1)]
        if len(shared) != 1 or key not in fresh:
            continue
        logs = [
            np.log(runs[runs["loss"] > 0].groupby("replicate")["loss"].mean())
            for runs in (fresh[key], tried[tried["cell"] == shared[0]])
        ]
        gains = (logs[0] - logs[1]).replace([math.inf, -math.inf], math.nan).dropna().to_numpy(dtype=float)
        if len(gains):
            rows.append((*key, len(gains), *mean_interval([gains])[:3]))
    return pd.DataFrame(rows, columns=[*keys, "num_searches", "difference", "low", "high"])


def is_search(runs: pd.DataFrame) -> bool:
    """Whether the cells of a sweep were drawn: it says so, or two or more keys each take as many values as there are
    cells."""
    if (runs["sweep"] == SEARCH).all():
        return True
    cells = runs.drop_duplicates("cell")["hyperparameters"]
    varying: dict[str, set[float]] = {}
    for values in cells:
        for key, value in values.items():
            if isinstance(value, float) and math.isfinite(value):
                varying.setdefault(key, set()).add(value)
    return sum(len(seen) == len(cells) > 2 for seen in varying.values()) >= 2
