"""Who comes first: every rank with its interval, and the chance to be the best."""

import pandas as pd
from matplotlib.axes import Axes

from bench.analysis.findings import Findings
from bench.analysis.frames import each
from bench.analysis.verdicts import OVERALL
from bench.report.figures.style import INK, MAX_LINES, MAX_PANELS, Palette, Picture, panels, plain_axis, short, span


def draw_ranks(found: Findings, palette: Palette) -> list[Picture]:
    """One panel per task, the one over all tasks first; nothing below three optimizers."""
    table = found.ranks[found.ranks["num_optimizers"] > 2]
    settings = [s for s in [OVERALL, *found.settings["setting"]] if (table["setting"] == s).any()][:MAX_PANELS]
    if not settings:
        return []
    counts = [min(int((table["setting"] == setting).sum()), MAX_LINES) for setting in settings]
    figure, axes = panels(settings, palette, columns=2, heights=[0.25 * count + 1.2 for count in counts])
    for axis, setting in zip(axes, settings, strict=True):
        _draw_panel(axis, table[table["setting"] == setting].head(MAX_LINES), palette)
    caption = (
        f"Rank by the mean logarithm of the final loss, n = {span(table['num_units'])} searches or seeds. Bar: the "
        "ranks that paired tests at 95 %, corrected among each other, leave open. Number: share of resamples in which "
        "the optimizer comes first."
    )
    return [Picture("ranks", "Ranks", caption, figure)]


def _draw_panel(axis: Axes, rows: pd.DataFrame, palette: Palette) -> None:
    most = int(rows["num_optimizers"].iloc[0])
    for y, row in enumerate(each(rows)):
        color = palette.color(row.optimizer)
        axis.plot([row.rank_low, row.rank_high], [-y, -y], color=color, lw=5, alpha=0.35)
        axis.plot(row.rank, -y, marker=palette.marker(row.optimizer), color=color, ms=6.5)
        axis.annotate(f"{100 * row.p_best:.0f} %", (1, -y), xycoords=("axes fraction", "data"), xytext=(6, 0),
                      textcoords="offset points", va="center", fontsize=8, color=INK)  # fmt: skip
    axis.set_yticks([-y for y in range(len(rows))], [short(name, 22) for name in rows["optimizer"]], color=INK)
    axis.set_xlim(0.6, most + 0.4)
    axis.grid(visible=True, axis="x")
    axis.grid(visible=False, axis="y")
    plain_axis(axis, "x")
    axis.set_xlabel("rank (1 = lowest loss); at the right P(best)")
