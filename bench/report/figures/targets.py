"""Runtime against target: how many steps to every target, and whether the ranking holds when the target moves."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.analysis.findings import Findings
from bench.analysis.frames import each, groups
from bench.report.figures.style import (
    MAX_LINES,
    MUTED,
    Palette,
    Picture,
    annotate_line,
    legend_below,
    log_axis,
    panels,
    plain_axis,
    span,
)


def draw_targets(found: Findings, palette: Palette) -> list[Picture]:
    """The curve of targets, and the ranks as the stated target moves by up to 20 %."""
    return [*_draw_curves(found, palette), *_draw_ranks(found, palette)]


def _draw_curves(found: Findings, palette: Palette) -> list[Picture]:
    curves = found.target_curves
    settings = [s for s in found.settings["setting"] if (curves["setting"] == s).any()]
    if not settings:
        return []
    figure, axes = panels(settings, palette)
    for axis, setting in zip(axes, settings, strict=False):
        mine = curves[curves["setting"] == setting]
        for optimizer, curve in list(groups(mine, "optimizer"))[:MAX_LINES]:
            steps = np.where(np.isfinite(curve["steps"]), curve["steps"], np.nan)
            axis.plot(curve["target"], steps, drawstyle="steps-post", **palette.line(optimizer))
        _orient(axis, mine)
        for target in each(found.targets[found.targets["setting"] == setting]):
            if min(axis.get_xlim()) <= target.value <= max(axis.get_xlim()):
                annotate_line(axis, target.value, "stated target")
        axis.set_ylim(bottom=0)
        plain_axis(axis, "y")
    axes[0].set_ylabel("training steps to get there")
    legend_below(figure, palette, sorted(curves["optimizer"].unique())[:MAX_LINES], markers=False)
    counts = found.target_curves["num_seeds"]
    caption = (
        f"Median over seeds (n = {span(counts)}) of the first evaluation at or past each target, from the untrained "
        "model to the best value that anybody reached. A line ends where half of the seeds do not arrive."
    )
    return [Picture("targets", "Steps to every target", caption, figure)]


def _orient(axis: Axes, curves: pd.DataFrame) -> None:
    """Harder targets to the right."""
    mode, metric = curves["mode"].iloc[0], str(curves["metric"].iloc[0]).replace("_", " ")
    low, high = curves["target"].min(), curves["target"].max()
    axis.set_xlim((high, low) if mode == "min" else (low, high)) if high > low else None
    if mode == "min" and low > 0 and high > 4 * low:
        axis.set_xlim(low, high)
        log_axis(axis, "x")
        axis.set_xlim(high, low)
    else:
        plain_axis(axis, "x")
    axis.set_xlabel(f"target: {metric} ({'at or below' if mode == 'min' else 'at or above'}), harder to the right")


def _draw_ranks(found: Findings, palette: Palette) -> list[Picture]:
    ranks = found.rank_changes
    pools = {setting: group["optimizer"].nunique() for setting, group in groups(ranks, "setting")}
    reached = set(ranks.loc[np.isfinite(ranks["steps"].to_numpy(dtype=float)), "setting"])
    settings = [s for s in found.settings["setting"] if s in reached and pools[s] > 1]
    if not settings:
        return []
    figure, axes = panels(settings, palette, height=2.7)
    for axis, setting in zip(axes, settings, strict=False):
        mine = ranks[ranks["setting"] == setting]
        for optimizer, line in list(groups(mine, "optimizer"))[:MAX_LINES]:
            arrived = np.isfinite(line["steps"])
            axis.plot(100 * line["shift"], line["rank"], lw=1, alpha=0.35, **palette.line(optimizer))
            axis.plot(100 * line["shift"], np.where(arrived, line["rank"], np.nan), **palette.line(optimizer))
        axis.axvline(0, color=MUTED, lw=0.9, ls=(0, (2, 2)), zorder=1)
        axis.invert_yaxis()
        axis.set_yticks(range(1, min(pools[setting], 20) + 1))
        axis.set_xlabel("target moved by (%), easier to the right")
        plain_axis(axis, "x")
    axes[0].set_ylabel("rank by steps (1 = fastest)")
    legend_below(figure, palette, sorted(ranks["optimizer"].unique())[:MAX_LINES], markers=False)
    caption = (
        f"Ranking by median steps over seeds (n = {span(found.target_curves['num_seeds'])}) to the target when the "
        "stated target is moved by up to 20 % either way (an accuracy: 20 % of its error). Faint: the optimizer does "
        "not arrive. Ties share the mean rank. A ranking whose lines cross near 0 says little."
    )
    return [Picture("rank_stability", "Does the ranking survive a moved target?", caption, figure)]
