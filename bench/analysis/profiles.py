"""Performance profiles over tasks and their area (Dolan & More 2002; scored as in AlgoPerf, Dahl et al. 2023)."""

import math

import numpy as np
import pandas as pd

from bench.analysis.arrays import Array

MAX_RATIO = 4.0
NUM_POINTS = 100


def time_ratios(times: Array) -> Array:
    """r = t / the best t of the pool, per task; inf beyond `MAX_RATIO`, where nobody arrives, and where t is unknown.

    Args:
        times: Time to target `[tasks, optimizers]`, inf where missed, NaN where unknown.
    """
    known = np.where(np.isnan(times), math.inf, times)
    best = known.min(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(np.isfinite(known), np.where(known == best, 1.0, known / best), math.inf)
    return np.where(ratios > MAX_RATIO, math.inf, ratios)


def profile(ratios: Array, taus: Array) -> Array:
    """rho(tau): the share of all tasks, solved by anybody or not, with r <= tau. Returns `[taus, optimizers]`."""
    return np.asarray((ratios[None] <= taus[:, None, None]).mean(axis=1))


def exact_score(ratios: Array) -> Array:
    """(1/3) x the integral of rho over [1, 4], which is the mean over tasks of (4 - r) / 3. Returns `[optimizers]`."""
    return np.asarray(np.where(np.isfinite(ratios), MAX_RATIO - np.minimum(ratios, MAX_RATIO), 0.0).mean(axis=0) / 3)


def trapezoid_score(ratios: Array) -> Array:
    """The same by the trapezoid on `NUM_POINTS` points, as others publish it. Returns `[optimizers]`."""
    taus = np.linspace(1, MAX_RATIO, NUM_POINTS)
    return np.asarray(np.trapezoid(profile(ratios, taus), taus, axis=0) / 3)


def profiles(times: pd.DataFrame, settings: list[str]) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, list[str]]:
    """Profiles by steps, and by seconds where the cost of a step was measured for the whole pool.

    Args:
        times: `targets.times_to_target` of the final runs.
        settings: Those that count (one per task).

    Returns:
        Measure -> `pool_times`; the scores of all, with the column `measure`; and sentences on who was left out.
    """
    pooled, scores, notes = {}, [], []
    for measure in ("steps", "seconds"):
        medians, left_out = pool_times(times, f"{measure}_to_target", settings)
        if medians.shape[1] < 2 or medians.isna().any(axis=None):
            continue
        pooled[measure] = medians
        scores.append(profile_scores(medians).assign(measure=measure))
        if left_out and measure == "steps":
            notes.append(f"Not run on every task, and so not in the performance profile: {', '.join(left_out)}.")
    columns = ["measure", "optimizer", "score", "trapezoid", "num_reached", "num_tasks"]
    return pooled, pd.concat(scores)[columns] if scores else pd.DataFrame(columns=columns), notes


def pool_times(times: pd.DataFrame, column: str, settings: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Median time to target of every optimizer in every setting.

    Args:
        times: `targets.times_to_target` of the final runs.
        column: "steps_to_target" or "seconds_to_target".
        settings: Those that count (one per task).

    Returns:
        Settings x optimizers, and the optimizers that were left out because they did not run in every setting that two
        or more optimizers ran in.
    """
    mine = times[times["setting"].isin(settings)]
    medians = mine.groupby(["setting", "optimizer"])[column].agg(lambda t: t.median(skipna=False)).unstack("optimizer")
    ran = mine.groupby(["setting", "optimizer"]).size().unstack("optimizer")
    contested = ran.notna().sum(axis=1) >= 2
    medians, ran = medians[contested], ran[contested]
    complete = ran.notna().all(axis=0) if len(ran) else pd.Series(False, index=ran.columns)
    return medians.loc[:, complete], sorted(complete.index[~complete])


def profile_scores(medians: pd.DataFrame) -> pd.DataFrame:
    """Scores of the pool.

    Returns:
        optimizer, score (exact), trapezoid, num_reached (r <= 4), num_tasks.
    """
    ratios = time_ratios(medians.to_numpy(dtype=float))
    return pd.DataFrame(
        {
            "optimizer": list(medians.columns),
            "score": exact_score(ratios) if len(ratios) else [],
            "trapezoid": trapezoid_score(ratios) if len(ratios) else [],
            "num_reached": np.isfinite(ratios).sum(axis=0),
            "num_tasks": len(ratios),
        }
    )
