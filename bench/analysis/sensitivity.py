"""How much a hyperparameter matters: response curves, flat width in decades, edges of grids."""

import json
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.analysis.flat_width import flat_width, width_interval
from bench.analysis.frames import groups
from bench.analysis.tuning import is_search
from bench.runs.objective import edge_of, edge_of_range, rank

FLAT_SHARE = 0.05
CURVE_COLUMNS = ["setting", "optimizer", "sweep", "is_search", "key", "value", "loss", "low", "high", "fixed_loss",
                 "num_seeds", "num_diverged"]  # fmt: skip


def sweep_cells(used: pd.DataFrame) -> pd.DataFrame:
    """One row per (setting, optimizer, sweep, cell) of the tuning sweeps, over seeds.

    Returns:
        setting, optimizer, sweep, cell, loss (median, inf kept), low, high (least and largest), losses and seeds
        (tuples, one value per run), num_seeds, num_diverged, values (dict), is_search (the cells were drawn, not laid
        out as a grid).
    """
    tuning = used[(used["sweep"] != "") & (used["stage"] != "fresh")]
    keys = ["setting", "optimizer", "sweep", "cell"]
    if tuning.empty:
        return pd.DataFrame(
            columns=[
                *keys,
                "loss",
                "low",
                "high",
                "losses",
                "seeds",
                "num_seeds",
                "num_diverged",
                "values",
                "is_search",
            ]
        )
    grouped = tuning.groupby(keys, sort=True)
    cells = grouped.agg(
        loss=("loss", "median"),
        low=("loss", "min"),
        high=("loss", "max"),
        losses=("loss", tuple),
        seeds=("seed", tuple),
        num_seeds=("seed", "nunique"),
        num_diverged=("loss", lambda loss: int(np.isinf(loss).sum())),
    ).reset_index()
    drawn = {key: is_search(group) for key, group in groups(tuning, keys[:3])}
    return cells.assign(
        values=[json.loads(text) for text in cells["cell"]],
        is_search=[drawn[key] for key in zip(*(cells[key] for key in keys[:3]), strict=True)],
    )


def best_of(cells: pd.DataFrame) -> pd.Series:
    """The best one of the cells from `sweep_cells`, by `bench.runs.objective.rank`."""
    best = rank(dict(zip(cells["cell"], cells["losses"], strict=True)))[0]
    return cells[cells["cell"] == best].iloc[0]


def swept_keys(cells: pd.DataFrame) -> list[str]:
    """The numeric hyperparameters that take several values in the cells of one sweep."""
    seen: dict[str, set[float]] = {}
    for values in cells["values"]:
        for key, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                seen.setdefault(key, set()).add(float(value))
    return [key for key in sorted(seen) if len(seen[key]) > 1]


def response_curves(cells: pd.DataFrame) -> pd.DataFrame:
    """Final loss against every swept key.

    Returns:
        setting, optimizer, sweep, is_search, key, value, and of the best cell at this value (all other keys tuned
        anew): loss, low, high, num_seeds, num_diverged; `fixed_loss` is the loss with all other keys held at the
        sweep's best cell (NaN where that cell was not run).
    """
    rows = []
    for (setting, optimizer, sweep), group in groups(cells, ["setting", "optimizer", "sweep"]):
        best = best_of(group)["values"]
        for key in swept_keys(group):
            group_values = np.array([number_of(values.get(key)) for values in group["values"]])
            others = {k: v for k, v in best.items() if k != key}
            is_slice = np.array([{k: v for k, v in values.items() if k != key} == others for values in group["values"]])
            for value in sorted(set(group_values[~np.isnan(group_values)])):
                at = best_of(group[group_values == value])
                fixed = group.loc[(group_values == value) & is_slice, "loss"]
                rows.append((setting, optimizer, sweep, at["is_search"], key, value, at["loss"], at["low"], at["high"],
                             fixed.min() if len(fixed) else math.nan, at["num_seeds"], at["num_diverged"]))  # fmt: skip
    return pd.DataFrame(rows, columns=CURVE_COLUMNS)


def number_of(value: object) -> float:
    """`value` where it is a number, else NaN."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def is_log_key(values: Sequence[float]) -> bool:
    """Whether a key belongs on a log axis: nothing below zero, a decade or more between positive values."""
    positive = [value for value in values if value > 0]
    return min(values) >= 0 and len(positive) > 1 and max(positive) >= 10 * min(positive)


def flat_widths(curves: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """`flat_width` of every swept key that was put on a grid, with one `delta` for all optimizers of a setting.

    `delta` is `FLAT_SHARE` of the lowest median loss that any sweep of the setting reached.

    Returns:
        setting, optimizer, sweep, key, best, best_loss, delta, width, low, high, open_low, open_high, unit ("decades"
        or "units" of the key), num_values, width_low, width_high and num_seeds (from `width_interval`). Zero has no
        place on a log axis and is left out there.
    """
    delta = cells.groupby("setting")["loss"].min().abs() * FLAT_SHARE
    # In a random search every value occurs once: a curve through them would follow the other keys' luck.
    grids = curves[~curves["is_search"].astype(bool)]
    rows = []
    for (setting, optimizer, sweep, key), curve in groups(grids, ["setting", "optimizer", "sweep", "key"]):
        log = is_log_key(list(curve["value"]))
        curve = curve[curve["value"] > 0] if log else curve
        position = np.log10(curve["value"].to_numpy()) if log else curve["value"].to_numpy()
        region = flat_width(position, curve["loss"].to_numpy(), delta[setting])
        mine = cells[(cells["setting"] == setting) & (cells["optimizer"] == optimizer) & (cells["sweep"] == sweep)]
        tried = [mine[[number_of(values.get(key)) == value for values in mine["values"]]] for value in curve["value"]]
        width_low, width_high, num_seeds = width_interval(position, tried, delta[setting])
        ends = {end: 10 ** region[end] if log else region[end] for end in ("low", "high")}
        best = curve.iloc[int(np.argmin(curve["loss"]))]
        rows.append({"setting": setting, "optimizer": optimizer, "sweep": sweep, "key": key, "best": best["value"],
                     "best_loss": best["loss"], "delta": delta[setting], **region, **ends,
                     "unit": "decades" if log else "units", "num_values": len(curve), "width_low": width_low,
                     "width_high": width_high, "num_seeds": num_seeds})  # fmt: skip
    columns = ["setting", "optimizer", "sweep", "key", "best", "best_loss", "delta", "width", "low", "high", "open_low",
               "open_high", "unit", "num_values", "width_low", "width_high", "num_seeds"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def edge_flags(cells: pd.DataFrame, spaces: dict[str, dict[str, tuple[float, float]]]) -> pd.DataFrame:
    """Best cells that sit at the end of a swept key: the true best may lie outside.

    On a grid that is its first or last value, of two as of many; in a search what `edge_of_range` says of its
    range. At zero there is nothing further down: no hyperparameter may be negative.

    Args:
        cells: From `sweep_cells`.
        spaces: Optimizer -> key -> (low, high), from the runs' configuration.

    Returns:
        setting, optimizer, sweep, key, value, direction ("lower" or "higher": where to look).
    """
    rows = []
    for (setting, optimizer, sweep), group in groups(cells, ["setting", "optimizer", "sweep"]):
        best = best_of(group)
        for key in swept_keys(group):
            value = number_of(best["values"].get(key))
            tried = np.array([number_of(values.get(key)) for values in group["values"]])
            edge = edge_of(value, np.nanmin(tried), np.nanmax(tried))
            if best["is_search"] and key in spaces.get(str(optimizer), {}):
                edge = edge_of_range(value, *spaces[str(optimizer)][key])
            if edge:
                rows.append((setting, optimizer, sweep, key, value, edge))
    return pd.DataFrame(rows, columns=["setting", "optimizer", "sweep", "key", "value", "direction"])
