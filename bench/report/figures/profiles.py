"""Over all tasks: performance profiles and aggregate scores with their intervals."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.findings import Findings
from bench.analysis.frames import each
from bench.analysis.profiles import MAX_RATIO, time_ratios
from bench.report.figures.style import (
    INK,
    MAX_LINES,
    MUTED,
    WIDTH,
    Palette,
    Picture,
    legend_below,
    panels,
    plain_axis,
    short,
    span,
)


def draw_profiles(found: Findings, palette: Palette) -> list[Picture]:
    """The profile by steps and by seconds, where two or more optimizers ran on at least two tasks."""
    measures = [measure for measure, times in found.profile_times.items() if len(times) > 1]
    pictures = []
    if measures:
        figure, axes = panels([f"by {measure} to target" for measure in measures], columns=2, height=3.4)
        for axis, measure in zip(axes, measures, strict=True):
            times = found.profile_times[measure]
            ratios = time_ratios(times.to_numpy(dtype=float))
            for index, optimizer in enumerate(times.columns[:MAX_LINES]):
                _draw_profile(axis, ratios[:, index], palette, optimizer)
            axis.set_xlabel("τ: at most so many times the best time of the pool")
        axes[0].set_ylabel("share of tasks")
        pool = list(found.profile_times[measures[0]].columns)
        legend_below(figure, palette, pool[:MAX_LINES], markers=False)
        caption = (
            f"ρ(τ): share of the n = {len(found.profile_times[measures[0]])} tasks that an optimizer solves within τ "
            f"times the best time of the pool; beyond {MAX_RATIO:g} counts as not solved, and a task that nobody "
            f"solves stays in the denominator. Pool: {', '.join(short(name, 24) for name in pool)}."
        )
        pictures.append(Picture("profile", "Performance profile", caption, figure))
    return [*pictures, *_draw_aggregates(found, palette)]


def _draw_profile(axis: Axes, ratios: np.ndarray, palette: Palette, optimizer: str) -> None:
    reached = np.sort(ratios[np.isfinite(ratios)])
    x = np.concatenate([[1.0], reached, [MAX_RATIO]])
    y = np.concatenate([[0.0], np.arange(1, len(reached) + 1), [len(reached)]]) / len(ratios)
    axis.step(x, y, where="post", **palette.line(optimizer))
    axis.set_xlim(0.97, MAX_RATIO)
    axis.set_ylim(0, 1.04)
    axis.set_xticks(np.arange(1, MAX_RATIO + 0.1, 0.5))
    plain_axis(axis, "y")


def _draw_aggregates(found: Findings, palette: Palette) -> list[Picture]:
    table = found.aggregates.sort_values("iqm", ascending=False).head(MAX_LINES)
    if table.empty or table["num_tasks"].max() < 2 or len(table) < 2:
        return []
    figure = Figure(figsize=(WIDTH, 0.3 * len(table) + 1.5), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    columns = (
        ("iqm", "interquartile mean score", "right is better"),
        ("optimality_gap", "optimality gap", "left is better"),
        ("improvement", "chance to beat the baseline", "right is better"),
    )
    for axis, (column, title, side) in zip(axes, columns, strict=True):
        for y, row in enumerate(each(table)):
            color, value = palette.color(row.optimizer), getattr(row, column)
            ends = [getattr(row, f"{column}_{end}", np.nan) for end in ("low", "high")]
            axis.plot(ends, [-y, -y], color=color, lw=4, alpha=0.35)
            axis.plot(value, -y, marker=palette.marker(row.optimizer), color=color, ms=6.5)
        axis.set_title(title)
        axis.set_xlabel(side)
        axis.grid(visible=True, axis="x")
        plain_axis(axis, "x")
    axes[2].axvline(0.5, color=MUTED, lw=1, ls=(0, (2, 2)))
    axes[0].set_yticks([-y for y in range(len(table))], [short(name, 24) for name in table["optimizer"]], color=INK)
    caption = (
        f"Over n = {table['num_tasks'].max()} tasks and {span(table['num_runs'])} runs "
        "per optimizer. Score: 0 is the untrained model, 1 the best median final loss of the pool on the task. Bars: "
        "95 % percentile bootstrap, stratified by task. Ties count half."
    )
    return [Picture("aggregates", "Over all tasks and seeds", caption, figure)]
