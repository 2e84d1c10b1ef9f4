"""What a step costs: only interleaved rounds that were measured for the purpose count (`python -m bench.times`)."""

import math

import numpy as np
import pandas as pd

from bench.analysis.frames import groups
from bench.analysis.intervals import mean_interval

ROUND_COLUMNS = ["setting", "optimizer", "session", "round", "step_seconds"]
SAME = ["task", "batch_size", "precision", "device", "optimizer"]


def rounds_of(rounds: pd.DataFrame, used: pd.DataFrame) -> pd.DataFrame:
    """Timed rounds by the settings that they speak for: task, batch size, precision, device and optimizer agree.

    Args:
        rounds: From `load.load`.
        used: Comparable runs.

    Returns:
        `ROUND_COLUMNS`.
    """
    settings = used.drop_duplicates(["setting", "optimizer"])[["setting", *SAME]]
    return settings.merge(rounds.astype({"batch_size": float}), on=SAME)[ROUND_COLUMNS]


def step_costs(used: pd.DataFrame, rounds: pd.DataFrame) -> pd.DataFrame:
    """Seconds per step of each optimizer in each setting.

    Returns:
        setting, optimizer, step_seconds (geometric mean over rounds; NaN: not measured), low, high (95 %, of that
        mean), num_rounds.
    """
    known = dict(groups(rounds, ["setting", "optimizer"]))
    rows = []
    for key in sorted(set(zip(used["setting"], used["optimizer"], strict=True))):
        if key in known:
            interval = mean_interval([np.log(known[key]["step_seconds"].to_numpy(dtype=float))])
            rows.append((*key, *np.exp(interval[:3]), len(known[key])))
        else:
            rows.append((*key, math.nan, math.nan, math.nan, 0))
    return pd.DataFrame(rows, columns=["setting", "optimizer", "step_seconds", "low", "high", "num_rounds"])
