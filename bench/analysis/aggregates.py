"""Aggregates over tasks and seeds (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice").

Array contract: scores are `[runs, tasks]` (higher is better), or a list with one array `[runs]` per task where tasks
have different numbers of runs.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from bench.analysis.bootstrap import Array, generator, percentile_interval
from bench.analysis.frames import groups
from bench.analysis.intervals import MIN_PAIRS

Scores = Array | Sequence[Array]


def interquartile_mean(scores: Scores) -> float:
    """The mean of the middle half of all runs of all tasks (section 4.3)."""
    return float(stats.trim_mean(np.concatenate([np.ravel(s) for s in _tasks(scores)]), 0.25))


def optimality_gap(scores: Scores, threshold: float = 1.0) -> float:
    """How far runs fall short of `threshold`, on average; what exceeds it counts as `threshold` (section 4.3)."""
    return threshold - float(np.mean(np.minimum(np.concatenate([np.ravel(s) for s in _tasks(scores)]), threshold)))


def probability_of_improvement(scores: Scores, others: Scores) -> float:
    """Chance that a run of the first beats one of the second on a random task, ties counting half (Mann-Whitney U)."""
    shares = []
    for mine, other in zip(_tasks(scores), _tasks(others), strict=True):
        difference = np.sign(np.asarray(mine)[:, None] - np.asarray(other)[None, :])
        shares.append((difference.mean() + 1) / 2)
    return float(np.mean(shares))


def _tasks(scores: Scores) -> list[Array]:
    return list(scores.T) if isinstance(scores, np.ndarray) and scores.ndim == 2 else list(scores)


def normalize_scores(final: pd.DataFrame) -> pd.Series:
    """Loss as a score per run: 0 is the untrained model, 1 the lowest median final loss of the pool on this setting.

    A run worse than the untrained model scores 0. NaN where the pool learned nothing.
    """
    medians = final.groupby(["setting", "optimizer"])["finite_loss"].median()
    best = final["setting"].map(medians.groupby("setting").min())
    untrained = final["setting"].map(final.groupby("setting")["initial_val_loss"].median())
    gain = (untrained - best).where(untrained > best)
    return ((untrained - final["finite_loss"]) / gain).clip(lower=0)


def aggregate_scores(
    final: pd.DataFrame, settings: list[str], baseline: str | None, *, seed: int = 0
) -> tuple[pd.DataFrame, list[str]]:
    """Aggregates of every optimizer that ran in all `settings`.

    Args:
        final: Final runs.
        settings: Those that count (one per task).
        baseline: Whom to improve on; None for nobody.
        seed: Of the bootstrap, stratified by setting.

    Returns:
        optimizer, iqm, iqm_low, iqm_high, optimality_gap, improvement (probability, over the baseline),
        improvement_low, improvement_high, num_tasks, num_runs; intervals are NaN with fewer than `MIN_PAIRS` runs on a
        task. And the names of those left out.
    """
    scored = final.assign(score=normalize_scores(final))
    scored = scored[scored["setting"].isin(settings)].dropna(subset="score")
    by_optimizer: dict[str, list[Array]] = {}
    for (optimizer, _), group in groups(scored, ["optimizer", "setting"]):
        by_optimizer.setdefault(optimizer, []).append(group["score"].to_numpy())
    num_tasks = scored["setting"].nunique()
    complete = {name: tasks for name, tasks in by_optimizer.items() if len(tasks) == num_tasks}
    rows = [_aggregate_row(name, tasks, complete.get(baseline or ""), seed) for name, tasks in complete.items()]
    columns = ["optimizer", "iqm", "iqm_low", "iqm_high", "optimality_gap", "improvement", "improvement_low",
               "improvement_high", "num_tasks", "num_runs"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns), sorted(set(by_optimizer) - set(complete))


def _aggregate_row(name: str, tasks: list[Array], reference: list[Array] | None, seed: int) -> dict[str, object]:
    enough = min(len(task) for task in tasks) >= MIN_PAIRS
    iqm_interval = improvement_interval = (math.nan, math.nan)
    if enough:
        iqm_interval = percentile_interval(tasks, _iqm_of_resamples, rng=generator(seed, f"iqm|{name}"))
    improvement = math.nan
    if reference is not None and reference is not tasks:
        improvement = probability_of_improvement(tasks, reference)
        if enough and min(len(task) for task in reference) >= MIN_PAIRS:
            improvement_interval = percentile_interval(
                [*tasks, *reference], _improvement_of_resamples, rng=generator(seed, f"improvement|{name}")
            )
    return {
        "optimizer": name,
        "iqm": interquartile_mean(tasks),
        "iqm_low": iqm_interval[0],
        "iqm_high": iqm_interval[1],
        "optimality_gap": optimality_gap(tasks),
        "improvement": improvement,
        "improvement_low": improvement_interval[0],
        "improvement_high": improvement_interval[1],
        "num_tasks": len(tasks),
        "num_runs": sum(len(task) for task in tasks),
    }


def _iqm_of_resamples(strata: list[Array]) -> Array:
    return np.asarray(stats.trim_mean(np.concatenate(strata, axis=1), 0.25, axis=1))


def _improvement_of_resamples(strata: list[Array]) -> Array:
    half = len(strata) // 2
    shares = [
        (np.sign(mine[:, :, None] - other[:, None, :]).mean(axis=(1, 2)) + 1) / 2
        for mine, other in zip(strata[:half], strata[half:], strict=True)
    ]
    return np.asarray(np.mean(shares, axis=0))
