"""Speedup against a named baseline, split into fewer steps x cost per step."""

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.bootstrap import Array, generator, percentile_interval
from bench.analysis.frames import each, groups
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


def speed_sentences(table: pd.DataFrame, targets: pd.DataFrame) -> list[tuple[str, str]]:
    """A headline and its details for each comparison whose target somebody reached."""
    goals = {goal.setting: goal for goal in each(targets)}
    sentences = []
    for row in each(table[table["fewer_steps"].notna()]):
        goal = goals[row.setting]
        what = f"{goal.metric} {'≤' if goal.mode == 'min' else '≥'} {goal.value:g}"
        who = f"{row.setting}: {row.optimizer}"
        reached = f"to {what}; {row.reached} and {row.reached_baseline} of {row.num_pairs} seeds arrive."
        if row.fewer_steps == 0:
            sentences.append((f"{who} does not reach the target, {row.baseline} does", reached))
        elif math.isinf(row.fewer_steps):
            sentences.append((f"{who} reaches the target, {row.baseline} does not", reached))
        else:
            headline = f"{who} needs {1 / row.fewer_steps:.2f} × the steps of {row.baseline}"
            sentences.append((headline, f"to {what}{_describe_ratio(row)}"))
    return sentences


def _describe_ratio(row: Any) -> str:
    span = ""
    if row.low > 0 and math.isfinite(row.high):
        span = f", 95 % interval {1 / row.high:.2f} to {1 / row.low:.2f}"
    if not math.isfinite(row.cheaper_step):
        return f"{span}; the cost of a step was not measured alone."
    clock = "derived from steps timed alone" if row.derived else "measured"
    return (
        f"{span}; a step costs {1 / row.cheaper_step:.2f} × as much: {row.speedup:.2f} × as fast in seconds ({clock})."
    )


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
