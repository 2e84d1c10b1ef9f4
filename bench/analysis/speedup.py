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
           "baseline_missed_of", "num_rounds", "mean_steps", "baseline_mean_steps",
           *(f"{name}_{column}" for name in RATIOS for column in ("ratio", "low", "high"))]  # fmt: skip


def speedups(
    times: pd.DataFrame, rounds: pd.DataFrame, baselines: dict[str, str], common: dict[tuple[str, str], float]
) -> pd.DataFrame:
    """Steps, cost of a step and seconds, each as the optimizer's over the baseline's: below 1 is faster.

    Ratios are geometric means with Student's interval on logarithms. Steps are compared where both arrive at the
    target, paired by search or seed, and get an interval only where nobody misses it, since who arrives late and who
    not at all is no accident. A crossing is known only to lie between two evaluations: the interval's lower end takes
    the optimizer's crossings at the evaluation before, its upper end the baseline's. The cost of a step comes from
    interleaved rounds alone; without them it and the seconds are NaN.

    Args:
        times: `targets.times_to_target` of the final runs.
        rounds: `step_times.rounds_of`: setting, optimizer, session, round, step_seconds.
        baselines: Setting -> optimizer.
        common: From `targets.common_crossings`.

    Returns:
        `COLUMNS`; a missed unit is one of whose runs one never reached the target; mean_steps is where the mean over an
        arm's runs arrives, inf where it does not.
    """
    logs = {name: np.log(times[name].astype(float).clip(lower=1.0)) for name in ("steps_to_target", "steps_before")}
    times = times.assign(late=logs["steps_to_target"], early=logs["steps_before"])
    rows = []
    for setting, group in groups(times, "setting"):
        baseline = baselines.get(setting, "")
        reference = group[group["optimizer"] == baseline]
        for optimizer, arm in groups(group[group["optimizer"] != baseline], "optimizer"):
            arms = pair_arms(arm, reference, "late")
            least = pair_arms(arm.assign(late=arm["early"]), reference, "late").differences
            most = pair_arms(arm, reference.assign(late=reference["early"]), "late").differences
            steps, cost = arms.differences, cost_differences(rounds, setting, optimizer, baseline)
            row: dict[str, Any] = {
                "setting": setting, "optimizer": optimizer, "baseline": baseline, "unit": arms.unit,
                "num_units": len(steps), "missed": arms.failed, "missed_of": arms.num_units,
                "baseline_missed": arms.other_failed, "baseline_missed_of": arms.other_units, "num_rounds": len(cost),
                "mean_steps": common.get((setting, optimizer), math.inf),
                "baseline_mean_steps": common.get((setting, baseline), math.inf),
            }  # fmt: skip
            all_arrive = arms.failed == arms.other_failed == 0
            row |= _ratio("steps", [steps], [least], [most], shows_interval=all_arrive)
            row |= _ratio("cost", [cost], [cost], [cost])
            row |= _ratio("seconds", [steps, cost], [least, cost], [most, cost], shows_interval=all_arrive)
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def cost_differences(rounds: pd.DataFrame, setting: str, optimizer: str, baseline: str) -> Array:
    """Differences of the logarithm of a step's seconds, optimizer - baseline, one for each round that timed both."""
    logs = rounds[rounds["setting"] == setting].assign(log=lambda frame: np.log(frame["step_seconds"].astype(float)))
    table = logs.pivot_table(index=["session", "round"], columns="optimizer", values="log")
    if not {optimizer, baseline} <= set(table.columns):
        return np.empty(0)
    return (table[optimizer] - table[baseline]).dropna().to_numpy(dtype=float)


def _ratio(
    name: str, parts: list[Array], least: list[Array], most: list[Array], *, shows_interval: bool = True
) -> dict[str, float]:
    """The product of ratios whose logarithms are in `parts`, NaN where one of them is empty.

    The interval is from the low end of `least` to the high end of `most`, between which `parts` lie.
    """
    fewest = min(map(len, parts))
    if fewest == 0:
        return {f"{name}_{column}": math.nan for column in ("ratio", "low", "high")}
    ends = [mean_interval(parts).mean, mean_interval(least).low, mean_interval(most).high]
    # The sum of k means is k times their mean.
    mean, low, high = (math.exp(min(len(parts) * value, 700.0)) for value in ends)
    if not shows_interval or fewest < MIN_UNITS:
        low = high = math.nan
    return {f"{name}_ratio": mean, f"{name}_low": low, f"{name}_high": high}
