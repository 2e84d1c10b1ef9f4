"""What eps does inside the update: how many coordinates it governs, and how large a step it leaves."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bench.analysis.diagnostics import over_training
from bench.analysis.epsilon import DEFAULT_EPS
from bench.analysis.findings import Findings
from bench.analysis.frames import groups
from bench.report.figures.style import (
    COLORS,
    MAX_PANELS,
    MUTED,
    Palette,
    Picture,
    handles_below,
    log_axis,
    panels,
    plain_axis,
    short,
    span,
)

LABEL_ORDER = ("matrix", "embedding", "head", "vector")


def draw_diagnostics(found: Findings, palette: Palette) -> list[Picture]:
    """Share of coordinates below eps, and the update's size, against eps; nothing where no run recorded them."""
    table = over_training(found.diagnostics)
    table = table[table["eps"] > 0]
    titles = [
        (s, o) for s in found.settings["setting"] for o in sorted(set(table.loc[table["setting"] == s, "optimizer"]))
    ]
    if not titles:
        return []
    labels = sorted(set(table["label"]), key=lambda label: (label not in LABEL_ORDER, label))[: len(COLORS)]
    colors = dict(zip(labels, COLORS, strict=False))
    pictures = []
    for kind, quantities in (("share", ("frac_below_eps", "frac_below_10eps")), ("rms", ("update_rms",))):
        figure, axes = panels(
            [f"{optimizer} · {setting}" for setting, optimizer in titles], palette, columns=3, height=2.8
        )
        for axis, (setting, optimizer) in zip(axes, titles, strict=False):
            mine = table[(table["setting"] == setting) & (table["optimizer"] == optimizer)]
            _draw_panel(axis, mine[mine["quantity"].isin(quantities)], colors)
            _finish(axis, kind)
        axes[0].set_ylabel("share of coordinates" if kind == "share" else "RMS of the update")
        handles_below(figure, _handles(colors, kind))
        pictures.append(_picture(kind, figure, table, len(titles)))
    return pictures


def _draw_panel(axis: Axes, table: pd.DataFrame, colors: dict[str, str]) -> None:
    for (label, quantity), line in groups(table, ["label", "quantity"]):
        if label not in colors:
            continue
        line = line.sort_values("eps")
        dashed = quantity == "frac_below_10eps"
        axis.plot(line["eps"], line["value"], color=colors[label], ls=(0, (3, 2)) if dashed else "-",
                  lw=1.2 if dashed else 1.9, marker="" if dashed else "o", ms=4)  # fmt: skip


def _finish(axis: Axes, kind: str) -> None:
    values = np.concatenate([line.get_ydata() for line in axis.lines]) if axis.lines else np.empty(0)
    if kind == "share":
        axis.set_ylim(-0.03, 1.03)
        plain_axis(axis, "y")
    elif (values > 0).any() and np.nanmax(values) > 3 * np.nanmin(values[values > 0]):
        log_axis(axis, "y")
    log_axis(axis, "x")
    low, high = axis.get_xlim()
    if low < DEFAULT_EPS < high:
        axis.axvline(DEFAULT_EPS, color=MUTED, lw=1, ls=(0, (1, 2)), zorder=1)
    axis.set_xlabel("eps")


def _handles(colors: dict[str, str], kind: str) -> list[Line2D]:
    handles = [Line2D([], [], color=color, marker="o", ms=4, label=short(label, 20)) for label, color in colors.items()]
    if kind == "share":
        handles.append(Line2D([], [], color=MUTED, label="√v̂ < eps"))
        handles.append(Line2D([], [], color=MUTED, lw=1.2, ls=(0, (3, 2)), label="√v̂ < 10 eps"))
    return handles


def _picture(kind: str, figure: object, table: pd.DataFrame, count: int) -> Picture:
    runs = f"n = {span(table['num_runs'])}"
    hidden = f" The first {MAX_PANELS} of {count} panels." if count > MAX_PANELS else ""
    if kind == "share":
        caption = (
            "Share of coordinates whose root second moment √v̂ is below eps (solid) and below 10 eps (dashed), by "
            f"kind of parameter; median over runs ({runs}), mean over training. Where the share leaves 0, eps "
            "reshapes the update; at 1 the optimizer is momentum SGD with step lr / eps. Dotted: PyTorch's default eps."
        )
        return Picture("diag_share_below_eps", "How many coordinates does eps govern?", caption + hidden, figure)  # type: ignore[arg-type]
    caption = (
        f"Root mean square of the update before the learning rate, by kind of parameter; median over runs ({runs}), "
        "mean over training. Adam's is of order one until eps takes over, and falls as 1 / eps after."
    )
    return Picture("diag_update_rms", "How large a step does eps leave?", caption + hidden, figure)  # type: ignore[arg-type]
