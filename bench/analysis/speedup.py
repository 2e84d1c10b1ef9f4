"""How many steps and seconds to the target, as ratios to the baseline: steps ratio x cost of a step."""

import math
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.arrays import Array
from bench.analysis.frames import groups
from bench.analysis.intervals import MIN_UNITS, mean_interval
from bench.analysis.pairs import pair_arms

RATIOS = ("steps", "cost", "seconds")
COLUMNS = ["setting", "optimizer", "baseline", "unit", "num_units", "missed", "missed_of", "baseline_missed",
           "baseline_missed_of", "num_rounds",
           *(f"{name}_{column}" for name in RATIOS for column in ("ratio", "low", "high"))]  # fmt: skip


def speedups(times: pd.DataFrame, rounds: pd.DataFrame, baselines: dict[str, str]) -> pd.DataFrame:
    """Steps, cost of a step and seconds, each as the optimizer's over the baseline's: below 1 is faster.

    Ratios are geometric means with Student's interval on logarithms. Steps are compared where both arrive at the
    target, paired by search or seed, and get an interval only where nobody misses it, since who arrives late and who
    not at all is no accident. The cost of a step comes from interleaved rounds alone; without them it and the seconds
    are NaN.

    Args:
        times: `targets.times_to_target` of the final runs.
        rounds: `step_times.rounds_of`: setting, optimizer, session, round, step_seconds.
        baselines: Setting -> optimizer.

    Returns:
        `COLUMNS`; a missed unit is one of whose runs one never reached the target.
    """
    times = times.assign(log_steps=np.log(times["steps_to_target"].astype(float).clip(lower=1.0)))
    rows = []
    for setting, group in groups(times, "setting"):
        baseline = baselines.get(setting, "")
        reference = group[group["optimizer"] == baseline]
        for optimizer, arm in groups(group[group["optimizer"] != baseline], "optimizer"):
            arms = pair_arms(arm, reference, "log_steps")
            steps, cost = arms.differences, cost_differences(rounds, setting, optimizer, baseline)
            row: dict[str, Any] = {
                "setting": setting, "optimizer": optimizer, "baseline": baseline, "unit": arms.unit,
                "num_units": len(steps), "missed": arms.failed, "missed_of": arms.num_units,
                "baseline_missed": arms.other_failed, "baseline_missed_of": arms.other_units, "num_rounds": len(cost),
            }  # fmt: skip
            all_arrive = arms.failed == arms.other_failed == 0
            for name, parts in zip(RATIOS, ([steps], [cost], [steps, cost]), strict=True):
                row |= _ratio(name, parts, shows_interval=name == "cost" or all_arrive)
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def cost_differences(rounds: pd.DataFrame, setting: str, optimizer: str, baseline: str) -> Array:
    """Differences of the logarithm of a step's seconds, optimizer - baseline, one for each round that timed both."""
    logs = rounds[rounds["setting"] == setting].assign(log=lambda frame: np.log(frame["step_seconds"].astype(float)))
    table = logs.pivot_table(index=["session", "round"], columns="optimizer", values="log")
    if not {optimizer, baseline} <= set(table.columns):
        return np.empty(0)
    return (table[optimizer] - table[baseline]).dropna().to_numpy(dtype=float)


def _ratio(name: str, parts: list[Array], *, shows_interval: bool) -> dict[str, float]:
    """The product of ratios whose logarithms are in `parts`, NaN where one of them is empty."""
    if min(map(len, parts)) == 0:
        return {f"{name}_{column}": math.nan for column in ("ratio", "low", "high")}
    # The sum of k means is k times their mean.
    interval = mean_interval(parts)
    mean, low, high = (math.exp(min(len(parts) * value, 700.0)) for value in interval[:3])
    if not shows_interval or min(map(len, parts)) < MIN_UNITS:
        low = high = math.nan
    return {f"{name}_ratio": mean, f"{name}_low": low, f"{name}_high": high}
