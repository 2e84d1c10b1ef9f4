"""Curves of the final runs: median and range over runs, against steps and against what they cost."""

import math

import numpy as np
import pandas as pd

from bench.analysis.frames import groups


def convergence(
    final: pd.DataFrame, metrics: pd.DataFrame, costs: pd.DataFrame, metric: str = "val_loss"
) -> pd.DataFrame:
    """Median and range of `metric` over runs at each evaluation.

    A run that ended early (diverged) counts as inf from then on: it stays in every median. Seconds are steps x the
    cost of a step.

    Returns:
        setting, optimizer, step, samples, tokens (NaN where a sample has none), median, low, high (least and
        largest), num_runs, seconds (NaN: not measured).
    """
    rows = metrics[metrics["run"].isin(final.index)]
    rows = rows[["run", "step", metric]].drop_duplicates(["run", "step"], keep="last")
    rows = rows.join(final[["setting", "optimizer", "samples_per_step", "context"]], on="run")
    cost = costs.set_index(["setting", "optimizer"])["step_seconds"].to_dict()
    parts = []
    for (setting, optimizer), group in groups(rows, ["setting", "optimizer"]):
        table = group.pivot(index="step", columns="run", values=metric)
        values = table.where(np.isfinite(table), math.inf).to_numpy()
        steps = table.index.to_numpy(dtype=float)
        parts.append(pd.DataFrame({
            "setting": setting, "optimizer": optimizer, "step": steps,
            "samples": steps * group["samples_per_step"].median(),
            "tokens": steps * (group["samples_per_step"] * group["context"]).median(),
            "median": np.median(values, axis=1), "low": values.min(axis=1), "high": values.max(axis=1),
            "num_runs": table.shape[1], "seconds": steps * cost.get((setting, optimizer), math.nan),
        }))  # fmt: skip
    columns = ["setting", "optimizer", "step", "samples", "tokens", "median", "low", "high", "num_runs", "seconds"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
