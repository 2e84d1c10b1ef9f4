"""The verdicts as a picture: per task every ratio of losses with its interval, against the margin that matters."""

import math
from collections.abc import Sequence
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
        draw_ratios(axis, rows, [short(name, 22) for name in rows["optimizer"]])
        axis.set_title(f"{short(setting, 34)}, against {short(str(rows['baseline'].iloc[0]), 16)}")
    return [Picture("verdicts", "Verdicts", _caption(table, len(settings)), figure)]


def draw_ratios(axis: Axes, rows: pd.DataFrame, names: Sequence[str]) -> None:
    """Rows from the top down, each against its margin, on a log axis of ratios where losses have logarithms.

    Args:
        axis: An empty one.
        rows: verdict, difference, low, high, relevant and scale, as `verdicts.compare` gives them; a row without a
            difference stays empty.
        names: What stands at the left of each.
    """
    is_log = bool((rows["scale"] == "log").all())
    reach = _reach(rows)
    at = np.exp if is_log else np.asarray
    axis.axvline(float(at(0.0)), color=INK, lw=1, zorder=1)
    for y, row in enumerate(each(rows)):
        if math.isfinite(row.relevant):
            left, right = float(at(-row.relevant)), float(at(row.relevant))
            axis.fill_betweenx([-y - 0.5, -y + 0.5], left, right, color=GRID, alpha=0.7, lw=0, zorder=0)
        if math.isfinite(row.difference):
            _draw_row(axis, row, -y, reach, at)
    axis.set_xlim(float(at(-reach)), float(at(reach)))
    axis.set_ylim(-len(rows) + 0.4, 0.6)
    axis.set_yticks([-y for y in range(len(rows))], [short(name, 34) for name in names], color=INK)
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


def _reach(rows: pd.DataFrame) -> float:
    """Half the width of the axis: one hopeless interval must not flatten all others."""
    values = rows[["difference", "low", "high"]].abs().to_numpy(dtype=float).ravel()
    values = np.append(values[np.isfinite(values)], 1e-6)
    margin = float(rows["relevant"].fillna(0.0).max())
    return 1.08 * float(max(min(values.max(), MAX_STRETCH * np.median(values)), 2.2 * margin))


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
