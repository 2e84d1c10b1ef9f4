"""The epsilon study: where the cliff of eps lies, how it moves with the loss scale, and what lr makes of it."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_rgb
from matplotlib.lines import Line2D

from bench.analysis.comparability import format_scale
from bench.analysis.epsilon import DEFAULT_EPS, EPS, LR
from bench.analysis.findings import Findings
from bench.analysis.frames import each, groups
from bench.report.figures.sensitivity import limit_losses
from bench.report.figures.style import (
    Palette,
    Picture,
    annotate_line,
    format_number,
    handles_below,
    log_axis,
    panels,
    short,
    span,
)

SCALE_LINES: tuple[Any, ...] = ("-", (0, (5, 1.8)), (0, (1.4, 1.4)), (0, (5, 1.5, 1.2, 1.5)))
MAX_MAPS = 18
# Dark on a light page and on a dark one: unlike the ink of axes, what lies on a map keeps its colour.
ON_MAP = "#14181f"


def draw_epsilon(found: Findings, palette: Palette) -> list[Picture]:
    """eps curves by family of settings, and lr x eps heatmaps; nothing where no sweep moved eps."""
    return [*_draw_curves(found, palette), *_draw_heatmaps(found, palette)]


def _draw_curves(found: Findings, palette: Palette) -> list[Picture]:
    grids = found.responses[~found.responses["is_search"].astype(bool)]
    curves = grids[grids["key"] == EPS].merge(found.settings, on="setting")
    families = [family for family in found.settings["family"].unique() if (curves["family"] == family).any()]
    if not families:
        return []
    figure, axes = panels(families, palette, columns=2, height=4.0)
    handles: dict[str, Line2D] = {}
    for axis, family in zip(axes, families, strict=False):
        mine = curves[curves["family"] == family]
        scales = sorted(mine["loss_scale"].unique(), reverse=True)
        for (optimizer, scale, _), curve in groups(mine, ["optimizer", "loss_scale", "sweep"]):
            handles |= _draw_curve(axis, curve, palette, optimizer, scale, scales)
        handles |= _draw_without_eps(axis, found, palette, family, set(mine["sweep"]))
        _finish(axis, mine)
    axes[0].set_ylabel("final validation loss")
    handles_below(figure, [handles[key] for key in sorted(handles)])
    seeds = curves["num_seeds"]
    caption = (
        f"Marked: median over seeds (n = {span(seeds)}) of the final loss at each eps with its own best lr; band: "
        "their range. Thin: lr held at the best cell's. The reported loss is unscaled: multiplying it by 2⁻ᵏ before "
        "the backward pass only makes the gradients smaller, as in a large model, and moves the cliff of a held lr to "
        "the left. Horizontal: optimizers without eps, each at its best setting. Dotted: PyTorch's default eps."
    )
    return [Picture("epsilon", "Where eps reshapes training", caption, figure)]


def _draw_curve(
    axis: Axes, curve: pd.DataFrame, palette: Palette, optimizer: str, scale: float, scales: list[float]
) -> dict[str, Line2D]:
    rank = scales.index(scale)
    color = tint(palette.color(optimizer), 0.25 * rank)
    style: dict[str, Any] = {"color": color, "ls": SCALE_LINES[rank % len(SCALE_LINES)]}
    curve = curve[np.isfinite(curve["loss"]) & (curve["value"] > 0)].sort_values("value")
    held = np.where(np.isfinite(curve["fixed_loss"]), curve["fixed_loss"], np.nan)
    axis.plot(curve["value"], held, lw=0.9, alpha=0.8, color=color, ls=style["ls"])
    axis.plot(curve["value"], curve["loss"], marker=palette.marker(optimizer), ms=4.5, **style)
    band = curve[np.isfinite(curve["high"])]
    axis.fill_between(band["value"], band["low"], band["high"], color=color, alpha=0.15, lw=0)
    label = optimizer if len(scales) == 1 else f"{short(optimizer, 24)}, loss × {format_scale(scale)}"
    return {f"{optimizer} {rank:02d}": Line2D([], [], marker=palette.marker(optimizer), ms=4.5, label=label, **style)}


def _draw_without_eps(
    axis: Axes, found: Findings, palette: Palette, family: str, sweeps: set[str]
) -> dict[str, Line2D]:
    """Optimizers of the same sweeps that have no eps: their best loss, one line per loss scale."""
    cells = found.sweep_cells.merge(found.settings, on="setting")
    cells = cells[(cells["family"] == family) & cells["sweep"].isin(sweeps)]
    cells = cells[[EPS not in values for values in cells["values"]]]
    handles = {}
    for optimizer, mine in groups(cells, "optimizer"):
        best = mine.groupby("loss_scale")["loss"].min()
        learned = best[np.isfinite(best)]
        for loss in learned:
            axis.axhline(loss, zorder=2, lw=2.4, **palette.line(optimizer))
        if len(learned):
            same = f", at {len(learned)} of {len(best)} loss scales" if len(best) > 1 else ""
            handles[f"~{optimizer}"] = Line2D([], [], lw=2.4, label=f"{short(optimizer, 24)} (no eps{same})",
                                              **palette.line(optimizer))  # fmt: skip
    return handles


def _finish(axis: Axes, curves: pd.DataFrame) -> None:
    limit_losses(axis, pd.concat([curves["loss"], curves["fixed_loss"]]))
    log_axis(axis, "x")
    low, high = curves["value"][curves["value"] > 0].min(), curves["value"].max()
    if low <= DEFAULT_EPS <= high:
        annotate_line(axis, DEFAULT_EPS, "default eps")
    axis.set_xlabel("eps")


def tint(color: str, amount: float) -> tuple[float, float, float]:
    """The colour moved towards white by a share."""
    red, green, blue = (channel + (1 - channel) * min(amount, 0.6) for channel in to_rgb(color))
    return red, green, blue


def _draw_heatmaps(found: Findings, palette: Palette) -> list[Picture]:
    cells = found.sweep_cells[~found.sweep_cells["is_search"].astype(bool)]
    maps = []
    for (setting, optimizer, sweep), group in groups(cells, ["setting", "optimizer", "sweep"]):
        grid = lr_eps_grid(group)
        if grid is not None:
            maps.append((setting, optimizer, sweep, grid))
    order = list(found.settings["setting"])
    maps = sorted(maps, key=lambda entry: (entry[1], order.index(entry[0])))[:MAX_MAPS]
    if not maps:
        return []
    figure, axes = panels(
        [f"{optimizer} · {setting}" for setting, optimizer, _, _ in maps], palette, columns=3, height=3.0
    )
    family = found.settings.set_index("setting")["family"]
    for axis, (setting, optimizer, sweep, grid) in zip(axes, maps, strict=True):
        alike = [m[3] for m in maps if family[m[0]] == family[setting]]
        mesh = _draw_map(axis, grid, _norm(alike))
        _draw_drift(axis, found.drift, setting, optimizer, sweep, grid)
        bar = figure.colorbar(mesh, ax=axis, shrink=0.9, aspect=26, pad=0.02)
        ticks = np.asarray(mesh.norm.inverse(np.linspace(0, 1, 5)))
        bar.set_ticks(list(ticks), labels=[format_number(tick) for tick in ticks])
        bar.ax.minorticks_off()
        bar.ax.tick_params(labelsize=7.5, length=0)
        bar.outline.set_visible(False)
    for index, axis in enumerate(axes):
        axis.set_ylabel("lr" if index % 3 == 0 or palette.narrow else "")
    caption = (
        "Median final validation loss of every cell of the grid (colour, logarithmic, one scale per task; yellow is "
        "low). Dots: the best lr at each eps; ring: the best cell. Grey: diverged or not run. Where the dots climb, a "
        "larger eps is answered by a larger lr: the update has become momentum SGD with step lr / eps."
    )
    return [Picture("lr_eps_heatmaps", "lr × eps", caption, figure)]


def lr_eps_grid(cells: pd.DataFrame) -> pd.DataFrame | None:
    """Losses by lr (rows) and eps, NaN where there is no such cell; None where the two do not span a grid."""
    rows = [(v.get(LR), v.get(EPS), loss) for v, loss in zip(cells["values"], cells["loss"], strict=True)]
    rows = [(lr, eps, loss) for lr, eps, loss in rows if lr and eps and lr > 0 and eps > 0]
    table = pd.DataFrame(rows, columns=["lr", "eps", "loss"])
    grid = table.groupby(["lr", "eps"])["loss"].min().unstack("eps")
    # A random search has every value once: that is no grid. One that grew has more learning rates at some eps.
    is_grid = grid.shape[1] > 1 and (grid.notna().sum() > 1).all()
    return grid if is_grid else None


def _norm(grids: list[pd.DataFrame]) -> Normalize:
    values = np.concatenate([grid.to_numpy().ravel() for grid in grids])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return LogNorm(low, max(high, low * 1.001)) if low > 0 else Normalize(low, high)


def _draw_map(axis: Axes, grid: pd.DataFrame, norm: Normalize) -> Any:
    axis.grid(visible=False)
    axis.set_facecolor("#c9ced6")
    values = np.ma.masked_invalid(grid.to_numpy(dtype=float))
    edges = [np.arange(count + 1) for count in reversed(grid.shape)]
    mesh = axis.pcolormesh(*edges, values, cmap="viridis_r", norm=norm, edgecolors="white", linewidth=0.6)
    for set_ticks, keys, most in ((axis.set_xticks, grid.columns, 5), (axis.set_yticks, grid.index, 8)):
        labels = [format_number(float(key)) for key in keys.to_numpy()]
        step = max(1, math.ceil(len(labels) / most))
        set_ticks(list(np.arange(0, len(labels), step) + 0.5), labels[::step])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("eps")
    return mesh


def _draw_drift(axis: Axes, drift: pd.DataFrame, setting: str, optimizer: str, sweep: str, grid: pd.DataFrame) -> None:
    mine = drift[(drift["setting"] == setting) & (drift["optimizer"] == optimizer) & (drift["sweep"] == sweep)]
    columns, rows = {eps: i for i, eps in enumerate(grid.columns)}, {lr: i for i, lr in enumerate(grid.index)}
    mine = mine[mine["learned"].astype(bool)]
    x = [columns[row.eps] + 0.5 for row in each(mine)]
    y = [rows[row.best_lr] + 0.5 for row in each(mine)]
    axis.plot(x, y, color=ON_MAP, lw=1.2, marker="o", ms=4.5, mfc="#fefefe", mec=ON_MAP)
    if len(mine):
        best = int(np.argmin(mine["loss"]))
        axis.plot(x[best], y[best], marker="o", ms=11, mfc="none", mec=ON_MAP, mew=1.6)
