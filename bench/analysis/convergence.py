"""Curves of the final runs: median and band over seeds, against steps and against honest seconds."""

import math

import numpy as np
import pandas as pd

from bench.analysis.frames import groups


def convergence(
    final: pd.DataFrame, metrics: pd.DataFrame, costs: pd.DataFrame, metric: str = "val_loss"
) -> pd.DataFrame:
    """Median and quartiles of `metric` over seeds at each evaluation.

    A run that ended early (diverged) counts as inf from then on: it stays in every median. Seconds are the median of
    the runs' own clocks, or steps x cost where the clock was shared by a pack.

    Returns:
        setting, optimizer, step, samples, tokens (NaN where a sample has none), median, low, high (quartiles, nearest
        rank), num_seeds, seconds (NaN: nobody measured).
    """
    rows = metrics[metrics["run"].isin(final.index)]
    rows = rows[["run", "step", metric, "train_seconds"]].drop_duplicates(["run", "step"], keep="last")
    rows = rows.join(final[["setting", "optimizer", "samples_per_step", "context", "shared_timing"]], on="run")
    cost = costs.set_index(["setting", "optimizer"])["step_seconds"].to_dict()
    parts = []
    for (setting, optimizer), group in groups(rows, ["setting", "optimizer"]):
        table = group.pivot(index="step", columns="run", values=metric)
        values = table.where(np.isfinite(table), math.inf).to_numpy()
        low, median, high = _quartiles(values)
        steps = table.index.to_numpy(dtype=float)
        own = group[~group["shared_timing"].astype(bool)].groupby("step")["train_seconds"].median()
        derived = steps * cost.get((setting, optimizer), math.nan)
        seconds = own.reindex(table.index).to_numpy() if len(own) else derived
        parts.append(pd.DataFrame({
            "setting": setting, "optimizer": optimizer, "step": steps,
            "samples": steps * group["samples_per_step"].median(),
            "tokens": steps * (group["samples_per_step"] * group["context"]).median(),
            "median": median, "low": low, "high": high,
            "num_seeds": table.shape[1], "seconds": seconds,
        }))  # fmt: skip
    columns = ["setting", "optimizer", "step", "samples", "tokens", "median", "low", "high", "num_seeds", "seconds"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _quartiles(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Interpolating between a number and inf gives NaN or inf: quartiles take a value that is there.
    low, high = np.quantile(values, [0.25, 0.75], axis=1, method="inverted_cdf")
    return low, np.median(values, axis=1), high
