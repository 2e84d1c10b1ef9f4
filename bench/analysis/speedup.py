"""Speedup against a named baseline, split into fewer steps x cost per step."""

import math

import numpy as np
import pandas as pd

from bench.analysis.bootstrap import Array, generator, percentile_interval
from bench.analysis.frames import groups
from bench.analysis.intervals import MIN_PAIRS


def speedups(times: pd.DataFrame, costs: pd.DataFrame, baselines: dict[str, str], *, seed: int = 0) -> pd.DataFrame:
    """How many times fewer steps and seconds to the target than the baseline, medians over shared seeds.

    Args:
        times: `targets.times_to_target` of the final runs.
        costs: `step_times.step_costs`.
        baselines: Setting -> optimizer.
        seed: Of the bootstrap.

    Returns:
        setting, optimizer, baseline, num_pairs, reached, reached_baseline, fewer_steps (baseline / optimizer; 0 where
        the optimizer never arrives, inf where the baseline never does, NaN where neither does), low, high (95 %, pairs
        resampled), cheaper_step (baseline's step / optimizer's step), speedup (their product), derived.
    """
    cost = costs.set_index(["setting", "optimizer"])
    rows = []
    for setting, group in groups(times, "setting"):
        baseline = baselines.get(setting, "")
        steps = group.pivot_table(
            index="seed", columns="optimizer", values="steps_to_target", aggfunc="first", dropna=False
        )
        for optimizer in steps.columns:
            if optimizer == baseline or baseline not in steps:
                continue
            pairs = steps[[optimizer, baseline]].dropna().to_numpy(dtype=float)
            mine, other = (cost.loc[(setting, name)] for name in (optimizer, baseline))
            fewer = ratio_of_medians(pairs) if len(pairs) else math.nan
            low, high = _interval(pairs, seed=seed, label=f"speedup|{setting}|{optimizer}|{baseline}")
            cheaper = float(other["step_seconds"] / mine["step_seconds"])
            rows.append({
                "setting": setting, "optimizer": optimizer, "baseline": baseline, "num_pairs": len(pairs),
                "reached": int(np.isfinite(pairs[:, 0]).sum()), "reached_baseline": int(np.isfinite(pairs[:, 1]).sum()),
                "fewer_steps": fewer, "low": low, "high": high, "cheaper_step": cheaper, "speedup": fewer * cheaper,
                "derived": bool(mine["derived"] or other["derived"]),
            })  # fmt: skip
    columns = ["setting", "optimizer", "baseline", "num_pairs", "reached", "reached_baseline", "fewer_steps", "low",
               "high", "cheaper_step", "speedup", "derived"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def ratio_of_medians(pairs: Array) -> float:
    """Baseline's median over the optimizer's, for pairs `[n, 2]` of (optimizer, baseline) times that may be inf."""
    return float(_ratios(pairs[None])[0])


def _ratios(pairs: Array) -> Array:
    mine, other = np.median(pairs[..., 0], axis=-1), np.median(pairs[..., 1], axis=-1)
    never = np.isinf(mine) & np.isinf(other)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(never, math.nan, other / mine)


def _interval(pairs: Array, *, seed: int, label: str) -> tuple[float, float]:
    if len(pairs) < MIN_PAIRS or np.isinf(np.median(pairs, axis=0)).all():
        return math.nan, math.nan

    def statistic(strata: list[Array]) -> Array:
        # A resample in which neither arrives says "no difference".
        return np.nan_to_num(_ratios(strata[0]), nan=1.0, posinf=math.inf)

    return percentile_interval([pairs], statistic, rng=generator(seed, label))
