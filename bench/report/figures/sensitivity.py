"""U-curves: final loss against every swept hyperparameter, and how wide each curve is flat."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bench.analysis.epsilon import EPS, LR
from bench.analysis.findings import Findings
from bench.analysis.frames import each, groups
from bench.analysis.sensitivity import is_log_key, number_of
from bench.report.figures.style import (
    INK,
    MAX_LINES,
    MUTED,
    Palette,
    Picture,
    legend_below,
    log_axis,
    log_axis_from_zero,
    panels,
    plain_axis,
    short,
    span,
    zero_position,
)

MAX_KEYS = 6
MAX_BARS = 48


def draw_sensitivity(found: Findings, palette: Palette) -> list[Picture]:
    """One picture for each swept key but eps (which has its own), lr first, and the flat widths."""
    keys = sorted(set(found.responses["key"]) - {EPS}, key=lambda key: (key != LR, key))
    pictures = [_draw_key(found, palette, key) for key in keys[:MAX_KEYS]]
    return [*pictures, *_draw_widths(found, palette)]


def _draw_key(found: Findings, palette: Palette, key: str) -> Picture:
    curves = found.responses[found.responses["key"] == key]
    settings = [s for s in found.settings["setting"] if (curves["setting"] == s).any()]
    figure, axes = panels(settings, palette)
    log = is_log_key(list(curves["value"]))
    smallest = curves.loc[curves["value"] > 0, "value"].min()
    chosen = _chosen_cells(found, key)
    if log:
        chosen["value"] = chosen["value"].where(chosen["value"] > 0, zero_position(smallest))
    for axis, setting in zip(axes, settings, strict=False):
        mine = curves[curves["setting"] == setting]
        for (optimizer, _), curve in list(groups(mine, ["optimizer", "sweep"]))[:MAX_LINES]:
            if log:
                curve = curve.assign(value=curve["value"].where(curve["value"] > 0, zero_position(smallest)))
            _draw_response(axis, curve, palette, optimizer)
            _draw_chosen(axis, chosen[(chosen["setting"] == setting) & (chosen["optimizer"] == optimizer)], palette)
        limit_losses(axis, mine["loss"])
        if log and (mine["value"] == 0).any():
            log_axis_from_zero(axis, smallest)
        elif log:
            log_axis(axis, "x")
        else:
            plain_axis(axis, "x")
        axis.set_xlabel(short(key.removeprefix("optimizer.")))
    axes[0].set_ylabel("final validation loss")
    cross = Line2D([], [], color=MUTED, marker="x", ls="", label="diverged")
    legend_below(figure, palette, sorted(curves["optimizer"].unique())[:MAX_LINES],
                 extra=[cross] if np.isinf(curves["loss"]).any() else [])  # fmt: skip
    seeds = curves["num_seeds"]
    name = key.removeprefix("optimizer.")
    caption = (
        f"Median over seeds (n = {span(seeds)}), all other keys tuned anew at each value; band: "
        "their range; star: the setting that was chosen, one of each search, by the mean over its seeds. Where every "
        "value was drawn once (a random search) each dot is one trial. Crosses at the top: diverged."
    )
    slug = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)[:40]
    return Picture(f"sensitivity_{slug}", f"Sensitivity to {short(name)}", caption, figure)


def _chosen_cells(found: Findings, key: str) -> pd.DataFrame:
    """setting, optimizer, value of the key and median loss of the cells that the tables name as best."""
    keys = ["setting", "optimizer", "cell"]
    cells = found.sweep_cells.merge(found.chosen[keys].drop_duplicates(), on=keys)
    cells["value"] = [number_of(values.get(key)) for values in cells["values"]]
    known: pd.DataFrame = cells[np.isfinite(cells["value"]) & np.isfinite(cells["loss"])].copy()
    return known


def _draw_chosen(axis: Axes, chosen: pd.DataFrame, palette: Palette) -> None:
    for row in each(chosen):
        axis.plot(row.value, row.loss, marker="*", ms=13, color=palette.color(row.optimizer), mec="white", mew=0.8,
                  zorder=5)  # fmt: skip


def _draw_response(axis: Axes, curve: pd.DataFrame, palette: Palette, optimizer: str) -> None:
    """One optimizer's response: a line with a band on a grid, dots where values were drawn, crosses for diverged."""
    curve = curve.sort_values("value")
    finite = curve[np.isfinite(curve["loss"])]
    drawn = bool(curve["is_search"].any())
    style = palette.line(optimizer)
    if drawn:
        style["linestyle"] = ""
    axis.plot(finite["value"], finite["loss"], marker=palette.marker(optimizer), alpha=0.75 if drawn else 1.0, **style)
    if not drawn:
        band = finite[np.isfinite(finite["low"]) & np.isfinite(finite["high"])]
        axis.fill_between(band["value"], band["low"], band["high"], color=palette.color(optimizer), alpha=0.15, lw=0)
    lost = curve[np.isinf(curve["loss"])]
    crosses = axis.plot(lost["value"], np.full(len(lost), 0.97), "x", color=palette.color(optimizer), ms=6, mew=1.6,
                        transform=axis.get_xaxis_transform(), clip_on=False)  # fmt: skip
    # Its mixed coordinates confuse the layout.
    crosses[0].set_in_layout(False)


def limit_losses(axis: Axes, losses: pd.Series) -> None:
    """A log axis where losses span more than a factor of three, no numbers where there is no loss."""
    finite = losses[np.isfinite(losses)]
    if finite.empty:
        axis.set_yticks([])
    elif finite.min() > 0 and finite.max() > 3 * finite.min():
        log_axis(axis, "y")
    else:
        plain_axis(axis, "y")


def _draw_widths(found: Findings, palette: Palette) -> list[Picture]:
    widths = found.flat_widths[(found.flat_widths["unit"] == "decades") & found.flat_widths["width"].notna()]
    keys = sorted(widths["key"].unique(), key=lambda key: (key != EPS, key != LR, key))[:3]
    widths = widths[widths["key"].isin(keys)]
    if widths.empty:
        return []
    counts = [int((widths["key"] == key).sum()) for key in keys]
    titles = [key.removeprefix("optimizer.") for key in keys]
    figure, axes = panels(titles, palette, heights=[min(0.27 * count + 1.2, 13) for count in counts])
    for axis, key in zip(axes, keys, strict=True):
        _draw_width_panel(axis, widths[widths["key"] == key].head(MAX_BARS), palette)
    caption = (
        "Decades that a key can move around its best value, by the median over seeds where tables go by the mean, all "
        "others tuned anew, before the median final loss worsens by more than 5 % of the lowest loss of the setting. "
        "Arrow and ≥: flat to the end of the grid, so the width is a lower bound."
    )
    return [Picture("flat_widths", "How wide is the flat region?", caption, figure)]


def _draw_width_panel(axis: Axes, widths: pd.DataFrame, palette: Palette) -> None:
    labels = []
    for y, row in enumerate(each(widths)):
        color, is_open = palette.color(row.optimizer), row.open_low or row.open_high
        axis.barh(-y, row.width, height=0.62, color=color, alpha=0.85)
        text = f"{'≥ ' if is_open else ''}{row.width:.1f}"
        axis.annotate(text, (row.width, -y), xytext=(12 if is_open else 5, 0), textcoords="offset points", va="center",
                      fontsize=8.5, color=INK)  # fmt: skip
        if is_open:
            axis.plot(row.width, -y, marker=">", color=color, ms=7, clip_on=False)
        labels.append(f"{short(row.optimizer, 18)} · {short(row.setting, 30)}")
    axis.set_yticks([-y for y in range(len(labels))], labels, color=INK)
    axis.grid(visible=False, axis="y")
    axis.grid(visible=True, axis="x")
    axis.margins(x=0.18)
    axis.set_xlim(left=0)
    plain_axis(axis, "x")
    axis.set_xlabel("flat width (decades)")
