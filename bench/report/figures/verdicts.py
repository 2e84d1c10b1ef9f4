"""The verdicts as a picture: per task every ratio of losses with its interval, against the margin that matters."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.analysis.findings import Findings
from bench.analysis.frames import each
from bench.analysis.sequential import BETTER, SAME, WORSE
from bench.analysis.verdicts import OVERALL
from bench.report.figures.style import (
    GRID,
    INK,
    MAX_PANELS,
    MUTED,
    Palette,
    Picture,
    format_number,
    log_axis,
    panels,
    plain_axis,
    short,
    span,
)

MAX_ROWS = 40
FILLED = (BETTER, WORSE)
COLORS = {BETTER: "#0a7a53", WORSE: "#b3390b", SAME: "#0b62a8"}
# Half of all effects may be this many times smaller than the reach of the axis; what lies beyond is an arrow.
MAX_STRETCH = 8.0


def draw_verdicts(found: Findings, palette: Palette) -> list[Picture]:
    """One panel per task in its own scale, sorted by effect; nothing where nothing was compared."""
    table = found.verdicts[np.isfinite(found.verdicts["difference"].astype(float))]
    settings = [s for s in [OVERALL, *found.settings["setting"]] if (table["setting"] == s).any()]
    if not settings:
        return []
    shown = settings[:MAX_PANELS]
    counts = [min(int((table["setting"] == setting).sum()), MAX_ROWS) for setting in shown]
    figure, axes = panels(settings, palette, columns=2, heights=[0.27 * count + 1.25 for count in counts])
    for axis, setting in zip(axes, shown, strict=True):
        rows = table[table["setting"] == setting].sort_values("difference").head(MAX_ROWS)
        _draw_panel(axis, rows)
        axis.set_title(f"{short(setting, 34)}, against {short(str(rows['baseline'].iloc[0]), 16)}")
    return [Picture("verdicts", "Verdicts", _caption(table, len(settings)), figure)]


def _draw_panel(axis: Axes, rows: pd.DataFrame) -> None:
    """Rows from the best down, on a log axis of ratios where losses have logarithms."""
    is_log = (rows["scale"] == "log").all()
    margin = float(rows["relevant"].iloc[0])
    reach = _reach(rows, margin)
    at = np.exp if is_log else np.asarray
    if math.isfinite(margin):
        axis.axvspan(float(at(-margin)), float(at(margin)), color=GRID, alpha=0.7, lw=0, zorder=0)
    axis.axvline(float(at(0.0)), color=INK, lw=1, zorder=1)
    for y, row in enumerate(each(rows)):
        _draw_row(axis, row, -y, reach, at)
    axis.set_xlim(float(at(-reach)), float(at(reach)))
    axis.set_ylim(-len(rows) + 0.4, 0.6)
    axis.set_yticks([-y for y in range(len(rows))], [short(name, 22) for name in rows["optimizer"]], color=INK)
    axis.grid(visible=True, axis="x")
    axis.grid(visible=False, axis="y")
    log_axis(axis, "x") if is_log and reach > 0.5 else plain_axis(axis, "x")
    axis.set_xlabel("ratio of losses, left is better" if is_log else "difference of losses, left is better")


def _draw_row(axis: Axes, row: Any, y: float, reach: float, at: Any) -> None:
    color = COLORS.get(row.verdict, MUTED)
    ends = np.clip([row.low, row.high], -reach, reach)
    if math.isfinite(row.low):
        axis.plot(at(ends), [y, y], color=color, lw=2.4 if row.verdict in COLORS else 1.5)
    inside = abs(row.difference) < reach
    marker = "o" if inside else "<" if row.difference < 0 else ">"
    point = axis.plot(at(np.clip(row.difference, -reach, reach)), y, marker=marker, color=color, ms=6, mew=1.4,
                      mfc=color if row.verdict in FILLED else "white", clip_on=False)  # fmt: skip
    point[0].set_in_layout(False)
    if not inside:
        text = f"× {format_number(float(f'{float(np.exp(row.difference)):.2g}'))}" if row.scale == "log" else (
            format_number(row.difference)
        )  # fmt: skip
        side = 1 if row.difference < 0 else -1
        axis.annotate(text, (float(at(np.clip(row.difference, -reach, reach))), y), xytext=(9 * side, 0),
                      textcoords="offset points", ha="left" if side > 0 else "right", va="center", fontsize=8,
                      color=INK, bbox={"fc": "white", "ec": "none", "pad": 0.8, "alpha": 0.8})  # fmt: skip


def _reach(rows: pd.DataFrame, margin: float) -> float:
    """Half the width of the axis: one hopeless interval must not flatten all others."""
    effects = rows["difference"].abs().to_numpy(dtype=float)
    ends = rows[["low", "high"]].abs().to_numpy(dtype=float).ravel()
    ends = ends[np.isfinite(ends)]
    widest = max([*effects, *ends, 1e-9])
    typical = float(np.median([*effects, *ends]))
    floor = 2.2 * margin if math.isfinite(margin) else 0.0
    return 1.08 * float(max(min(widest, MAX_STRETCH * typical), floor, 1e-6))


def _caption(table: pd.DataFrame, num_settings: int) -> str:
    splits = " and ".join(sorted(table["split"].unique()))
    hidden = f" The first {MAX_PANELS} of {num_settings} tasks." if num_settings > MAX_PANELS else ""
    return (
        f"Ratio of final {splits} losses to the baseline's with its 95 % interval, geometric mean over n = "
        f"{span(table['num_units'])} paired searches or seeds. Band: the margin below which a difference does not "
        f"matter. Filled: better or worse, after correction for the page's claims (n = "
        f"{int(table['num_claims'].max())}); blue: practically the same; grey: unresolved. Arrow: "
        f"beyond the axis.{hidden}"
    )
