"""What eps does to a study: how far it can move, whether the default is inside, and what the best lr makes of it."""

import json
import math

import numpy as np
import pandas as pd

from bench.analysis.frames import groups
from bench.analysis.sensitivity import number_of

EPS, LR = "optimizer.eps", "optimizer.lr"
DEFAULT_EPS = 1e-8


def eps_of(cell: str) -> float:
    """The optimizer's eps in a cell, NaN where it has none."""
    return number_of(json.loads(cell).get(EPS))


def best_lr_drift(cells: pd.DataFrame) -> pd.DataFrame:
    """The best lr at each eps, where a sweep has both.

    Returns:
        setting, optimizer, sweep, eps, best_lr, loss, on_edge (of the lr values tried at this eps), learned (the loss
        is in the better half of what the sweep saw; elsewhere one lr is as bad as another), and over the eps that
        learned: drift (decades that the best lr moves) and slope (least squares, decades of lr per decade of eps).
    """
    parts = []
    for (setting, optimizer, sweep), group in groups(cells, ["setting", "optimizer", "sweep"]):
        pairs = pd.DataFrame(
            [(number_of(v.get(EPS)), number_of(v.get(LR))) for v in group["values"]], columns=["eps", "lr"]
        )
        pairs["loss"] = group["loss"].to_numpy()
        pairs = pairs[(pairs["eps"] > 0) & (pairs["lr"] > 0)]
        if pairs["eps"].nunique() > 1 and pairs.groupby("eps")["lr"].nunique().max() > 1:
            parts.append(_drift(pairs).assign(setting=setting, optimizer=optimizer, sweep=sweep))
    columns = ["setting", "optimizer", "sweep", "eps", "best_lr", "loss", "on_edge", "learned", "drift", "slope"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _drift(pairs: pd.DataFrame) -> pd.DataFrame:
    finite = pairs[np.isfinite(pairs["loss"])]
    best = finite.sort_values(["eps", "loss", "lr"]).drop_duplicates("eps").rename(columns={"lr": "best_lr"})
    tried = pairs.groupby("eps")["lr"].agg(["min", "max"])
    at_low = best["best_lr"].to_numpy() <= tried["min"].reindex(best["eps"]).to_numpy()
    at_high = best["best_lr"].to_numpy() >= tried["max"].reindex(best["eps"]).to_numpy()
    learned = best["loss"] <= (finite["loss"].min() + finite["loss"].max()) / 2
    x, y = (np.log10(best.loc[learned, name].to_numpy()) for name in ("eps", "best_lr"))
    drift: pd.DataFrame = best.assign(
        on_edge=at_low | at_high,
        learned=learned,
        drift=np.ptp(y) if len(y) else math.nan,
        slope=round(float(np.polyfit(x, y, 1)[0]), 12) + 0.0 if len(x) > 1 else math.nan,  # no 2e-16 for 0
    )
    return drift
