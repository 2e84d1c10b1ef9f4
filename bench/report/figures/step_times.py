"""What a step costs, by part: stacked bars of runs that were timed alone."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from bench.analysis.findings import Findings
from bench.analysis.frames import each
from bench.analysis.step_times import PARTS
from bench.report.figures.style import INK, MAX_LINES, Palette, Picture, panels, plain_axis, short, span

PART_COLORS = {"data": "#b9c2cf", "forward": "#8fb3d9", "backward": "#4b7fb5", "optimizer": "#d55e00"}


def draw_step_times(found: Findings, palette: Palette) -> list[Picture]:
    """Milliseconds per step by part; nothing where every run was trained in a pack."""
    parts = found.step_parts
    settings = [s for s in found.settings["setting"] if (parts["setting"] == s).any()]
    if not settings:
        return []
    most = min(int(parts.groupby("setting").size().max()), MAX_LINES)
    figure, axes = panels(settings, columns=2 if len(settings) in (2, 4) else 3, height=0.3 * most + 1.1)
    for axis, setting in zip(axes, settings, strict=False):
        _draw_panel(axis, parts[parts["setting"] == setting])
    handles = [Patch(color=PART_COLORS[part], label=part) for part in PARTS]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    caption = (
        f"Median over evaluations, then over runs (n = {span(parts['num_runs'])}), of "
        "runs that trained alone on one kind of hardware; first steps and evaluation are not counted. Runs trained in "
        "packs share their time and are absent."
    )
    return [Picture("step_times", "What a step costs", caption, figure)]


def _draw_panel(axis: Axes, parts: pd.DataFrame) -> None:
    columns = [f"{part}_seconds" for part in PARTS]
    ordered = parts.assign(total=parts[columns].sum(axis=1)).sort_values("total").head(MAX_LINES)
    left = np.zeros(len(ordered))
    y = -np.arange(len(ordered))
    for part, column in zip(PARTS, columns, strict=True):
        width = 1000 * ordered[column].fillna(0).to_numpy()
        axis.barh(y, width, left=left, height=0.62, color=PART_COLORS[part])
        left += width
    for position, row in zip(y, each(ordered), strict=True):
        end = 1000 * row.total
        axis.annotate(f"{end:.3g} ms", (end, position), xytext=(5, 0), textcoords="offset points", va="center",
                      fontsize=8.5, color=INK)  # fmt: skip
    axis.set_yticks(y, [short(name, 22) for name in ordered["optimizer"]], color=INK)
    axis.grid(visible=False, axis="y")
    axis.grid(visible=True, axis="x")
    axis.margins(x=0.22)
    axis.set_xlim(left=0)
    plain_axis(axis, "x")
    axis.set_xlabel("time per training step (ms)")
