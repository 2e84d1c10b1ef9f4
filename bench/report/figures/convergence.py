"""Loss against steps, samples and seconds: small multiples by setting, median and range over runs."""

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
    legend_below,
    log_axis,
    panels,
    plain_axis,
    span,
)


def draw_convergence(found: Findings, palette: Palette) -> list[Picture]:
    """One picture against steps, one against honest seconds where there are any."""
    pictures = []
    for measure, words in (("step", "steps"), ("seconds", "training seconds")):
        curves = found.convergence.dropna(subset=measure)
        settings = [setting for setting in found.settings["setting"] if (curves["setting"] == setting).any()]
        if not settings:
            continue
        figure, axes = panels(settings, palette)
        for axis, setting in zip(axes, settings, strict=False):
            mine = curves[curves["setting"] == setting]
            _draw_panel(axis, mine, measure, palette)
            _draw_target(axis, found.targets, setting)
            axis.set_xlabel(_x_label(measure))
            if measure == "step":
                _add_samples(axis, mine)
        for axis in axes[:: max(1, figure.axes[0].get_subplotspec().get_gridspec().ncols)]:  # type: ignore[union-attr]
            axis.set_ylabel("validation loss")
        legend_below(figure, palette, sorted(curves["optimizer"].unique())[:MAX_LINES], markers=False)
        pictures.append(Picture(f"convergence_{words.split()[-1]}", f"Validation loss against {words}",
                                _caption(found, measure, curves), figure))  # fmt: skip
    return pictures


def _draw_panel(axis: Axes, curves: pd.DataFrame, measure: str, palette: Palette) -> None:
    for optimizer, curve in list(groups(curves, "optimizer"))[:MAX_LINES]:
        x = curve[measure].to_numpy()
        median = np.where(np.isfinite(curve["median"]), curve["median"], np.nan)
        axis.plot(x, median, **palette.line(optimizer))
        band = np.isfinite(curve["low"]) & np.isfinite(curve["high"])
        axis.fill_between(
            x[band], curve["low"][band], curve["high"][band], color=palette.color(optimizer), alpha=0.16, lw=0
        )
    finite = curves["median"][np.isfinite(curves["median"])]
    if len(finite) and finite.min() > 0 and finite.max() > 4 * finite.min():
        log_axis(axis, "y")
    else:
        plain_axis(axis, "y")
    axis.margins(x=0.01)
    plain_axis(axis, "x")


def _draw_target(axis: Axes, targets: pd.DataFrame, setting: str) -> None:
    for target in each(targets[(targets["setting"] == setting) & (targets["metric"] == "val_loss")]):
        axis.axhline(target.value, color=MUTED, lw=0.9, ls=(0, (2, 2)), zorder=1)
        axis.annotate("target", (1, target.value), xycoords=("axes fraction", "data"), xytext=(3, 0),
                      textcoords="offset points", va="center", fontsize=8, color=MUTED)  # fmt: skip


def _add_samples(axis: Axes, curves: pd.DataFrame) -> None:
    unit = "tokens" if curves["tokens"].notna().any() else "samples"
    last = curves.iloc[int(np.argmax(curves["step"]))]
    total, steps = float(last[unit]), float(last["step"])
    if not (np.isfinite(total) and total > 0 and steps > 0):
        return
    scale, word = (1e6, "million ") if total >= 1e6 else (1e3, "thousand ") if total >= 1e4 else (1.0, "")
    factor = total / steps / scale
    below = axis.secondary_xaxis(-0.28, functions=(lambda s: np.asarray(s) * factor, lambda s: np.asarray(s) / factor))
    below.set_xlabel(f"{word}{unit}")
    plain_axis(below, "x")


def _x_label(measure: str) -> str:
    return "training steps" if measure == "step" else "training time (s, evaluation not counted)"


def _caption(found: Findings, measure: str, curves: pd.DataFrame) -> str:
    text = (
        "Each optimizer at its best hyperparameters, by the mean over tuning seeds. Line: median over runs "
        f"(n = {span(curves['num_runs'])}); band: their range. A run that diverged counts as infinite from then on."
    )
    if measure == "seconds":
        text += " Seconds are steps × the cost of a step, from interleaved rounds timed for that purpose."
        text += " Optimizers that nobody timed are absent." if found.convergence["seconds"].isna().any() else ""
    hidden = curves["optimizer"].nunique() - MAX_LINES
    return text + (f" {hidden} more optimizers are in the tables." if hidden > 0 else "")
