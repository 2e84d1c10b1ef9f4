"""Over all tasks: performance profiles."""

import numpy as np
from matplotlib.axes import Axes

from bench.analysis.findings import Findings
from bench.analysis.profiles import MAX_RATIO, time_ratios
from bench.report.figures.style import (
    MAX_LINES,
    Palette,
    Picture,
    legend_below,
    panels,
    plain_axis,
    short,
)


def draw_profiles(found: Findings, palette: Palette) -> list[Picture]:
    """The profile by steps and by seconds, where two or more optimizers ran on two tasks and somebody arrives."""
    measures = [
        measure
        for measure, times in found.profile_times.items()
        if len(times) > 1 and np.isfinite(times).any(axis=None)
    ]
    pictures = []
    if measures:
        figure, axes = panels([f"by {measure} to target" for measure in measures], palette, columns=2, height=3.4)
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
    return pictures


def _draw_profile(axis: Axes, ratios: np.ndarray, palette: Palette, optimizer: str) -> None:
    reached = np.sort(ratios[np.isfinite(ratios)])
    x = np.concatenate([[1.0], reached, [MAX_RATIO]])
    y = np.concatenate([[0.0], np.arange(1, len(reached) + 1), [len(reached)]]) / len(ratios)
    axis.step(x, y, where="post", **palette.line(optimizer))
    axis.set_xlim(0.97, MAX_RATIO)
    axis.set_ylim(0, 1.04)
    axis.set_xticks(np.arange(1, MAX_RATIO + 0.1, 0.5))
    plain_axis(axis, "y")
