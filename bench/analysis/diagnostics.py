"""Where eps reshapes the update: the optional columns `diag/<label>/<quantity>` that a run may bring along."""

import re

import pandas as pd

from bench.analysis.epsilon import eps_of

QUANTITIES = ("frac_below_eps", "frac_below_10eps", "update_rms")
COLUMN = re.compile(r"diag/(?P<label>[^/]+)/(?P<quantity>frac_below_eps|frac_below_10eps|update_rms)")


def diagnostics(used: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """The diagnostic columns in long form, over runs that differ in seed and lr.

    Returns:
        setting, task, loss_scale, optimizer, eps (NaN: the optimizer has none), label, quantity, step, value (median
        over runs), num_runs.
    """
    keys = ["setting", "task", "loss_scale", "optimizer", "eps", "label", "quantity", "step"]
    found = {name: match for name in metrics.columns if (match := COLUMN.fullmatch(name))}
    rows = metrics.loc[metrics["run"].isin(used.index), ["run", "step", *found]]
    info = used[["setting", "task", "loss_scale", "optimizer"]].assign(eps=[eps_of(cell) for cell in used["cell"]])
    parts = []
    for name, match in found.items():
        values = rows[["run", "step", name]].dropna().join(info, on="run")
        grouped = values.groupby([key for key in keys if key not in ("label", "quantity")], dropna=False)[name]
        part = grouped.agg(["median", "size"]).reset_index()
        parts.append(part.assign(label=match["label"], quantity=match["quantity"]))
    if not parts:
        return pd.DataFrame(columns=[*keys, "value", "num_runs"])
    table = pd.concat(parts, ignore_index=True).rename(columns={"median": "value", "size": "num_runs"})
    return table[[*keys, "value", "num_runs"]]


def over_training(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over the evaluations of a training: one value per (setting, optimizer, eps, label, quantity)."""
    keys = ["setting", "task", "loss_scale", "optimizer", "eps", "label", "quantity"]
    return table.groupby(keys, dropna=False).agg(value=("value", "mean"), num_runs=("num_runs", "max")).reset_index()
