"""How much of a lead is averaging's: the same trainings compared by their weights, and by the averages kept beside."""

import math
import re

import numpy as np
import pandas as pd

from bench.analysis.frames import groups
from bench.analysis.intervals import Interval, mean_interval
from bench.analysis.pairs import pair_arms
from bench.analysis.scores import log_loss

AVERAGED = re.compile(r"final_(?P<label>(?:ema|lawa)(?:_[\d.e+-]+)?)_val_loss")
RATIOS = ("raw", "averaged", "gain")
COLUMNS = ["setting", "optimizer", "baseline", "unit", "num_units", "weights", "baseline_weights",
           *(f"{name}{end}" for name in RATIOS for end in ("", "_low", "_high")), "share"]  # fmt: skip


def averaging_shares(final: pd.DataFrame, baselines: dict[str, str]) -> pd.DataFrame:
    """Leads over the baseline with and without averages, where both arms kept some.

    Each arm's average is the one with the lowest mean final validation loss, the weights in training among them.

    Args:
        final: From `selection.final_runs`.
        baselines: Setting -> optimizer.

    Returns:
        `COLUMNS`: `weights` names what was chosen ("" for the weights in training). Differences of logarithms of final
        losses with their 95 % interval: `raw` and `averaged` are optimizer - baseline, both by their weights and both
        averaged; `gain` is the baseline averaged - the baseline. `share` is gain / raw where raw is surely below 0,
        else NaN: 1 says that averaging alone gives the baseline the whole lead.
    """
    labels = [match["label"] for name in final.columns if (match := AVERAGED.fullmatch(name))]
    rows = []
    for setting, group in groups(final[final["scale"] == "log"], "setting"):
        known = [label for label in labels if group[f"final_{label}_val_loss"].notna().any()]
        baseline = baselines.get(str(setting), "")
        if not known or baseline not in set(group["optimizer"]):
            continue
        arms = {name: _add_scores(arm, known) for name, arm in groups(group, "optimizer")}
        for optimizer in sorted(set(arms) - {baseline}):
            rows.append([setting, optimizer, baseline, *_compare(arms[optimizer], arms[baseline])])
    return pd.DataFrame(rows, columns=COLUMNS)


def _add_scores(arm: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """Columns `raw` and `averaged`, inf where a run failed, and `weights`, the label that was chosen."""
    split = "test" if arm["split"].iloc[0] == "test" else "val"
    failed = ~np.isfinite(arm["judged_loss"])
    columns = {label: f"{label}_" if label else "" for label in ["", *labels]}
    means = {label: float(log_loss(arm.loc[~failed, f"final_{column}val_loss"]).mean()) if (~failed).any() else math.nan
             for label, column in columns.items()}  # fmt: skip
    best = min(means, key=lambda label: math.inf if math.isnan(means[label]) else means[label])
    scores = {name: pd.Series(log_loss(arm[f"final_{columns[label]}{split}_loss"]), arm.index).mask(failed, math.inf)
              for name, label in (("raw", ""), ("averaged", best))}  # fmt: skip
    return arm.assign(**scores, weights=best)


def _compare(arm: pd.DataFrame, baseline: pd.DataFrame) -> list[object]:
    raw = pair_arms(arm, baseline, "raw")
    both = pair_arms(arm, baseline, "averaged")
    gain = pair_arms(baseline.assign(raw=baseline["averaged"]), baseline, "raw")
    intervals = [mean_interval([arms.differences]) for arms in (raw, both, gain)]
    share = intervals[2].mean / intervals[0].mean if intervals[0].high < 0 else math.nan
    numbers = [number for interval in intervals for number in _ends(interval)]
    return [raw.unit, len(raw.differences), arm["weights"].iloc[0], baseline["weights"].iloc[0], *numbers, share]


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.mean, interval.low, interval.high
