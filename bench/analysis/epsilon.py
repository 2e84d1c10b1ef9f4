"""What eps does to a study: how far it can move, whether the default is inside, and what the best lr makes of it."""

import json
import math

import numpy as np
import pandas as pd

from bench.analysis.frames import each, groups
from bench.analysis.sensitivity import number_of

EPS, LR = "optimizer.eps", "optimizer.lr"
DEFAULT_EPS = 1e-8


def eps_of(cell: str) -> float:
    """The optimizer's eps in a cell, NaN where it has none."""
    return number_of(json.loads(cell).get(EPS))


def eps_sentences(widths: pd.DataFrame, curves: pd.DataFrame) -> list[tuple[str, str]]:
    """A headline and its details for each sweep of eps: its flat region, and whether PyTorch's default lies in it.

    Args:
        widths: From `sensitivity.flat_widths`.
        curves: From `sensitivity.response_curves`.
    """
    sentences = []
    for row in each(widths[(widths["key"] == EPS) & widths["width"].notna()]):
        bound = "at least " if row.open_low or row.open_high else ""
        who = f"{row.setting}: the flat region of {row.optimizer}'s eps is {bound}{row.width:.1f} decades wide"
        text = (
            f"from {_short(row.low)} to {_short(row.high)} the median final loss stays within {row.delta:.2g} of the "
        )
        text += f"best, {row.best_loss:.4g}"
        mine = curves[(curves["key"] == EPS) & (curves["setting"] == row.setting) & (curves["sweep"] == row.sweep)
                      & (curves["optimizer"] == row.optimizer)]  # fmt: skip
        default = mine[np.isclose(mine["value"], DEFAULT_EPS, rtol=1e-6, atol=0)]
        if len(default):
            loss = default["loss"].iloc[0]
            side = "inside" if row.low <= DEFAULT_EPS <= row.high else "outside"
            reached = f"{loss:.4g}" if math.isfinite(loss) else "no finite loss"
            text += f"; the default {_short(DEFAULT_EPS)} lies {side} and reaches {reached}"
        sentences.append((who, f"{text}."))
    return sentences


def _short(value: float) -> str:
    return f"{value:.1g}".replace("e-0", "e-")


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
        slope=np.polyfit(x, y, 1)[0] if len(x) > 1 else math.nan,
    )
    return drift
