"""Forest plot: every paired difference with its interval, on one axis of per cent."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.findings import Findings
from bench.analysis.frames import each
from bench.report.figures.style import INK, MUTED, WIDTH, Palette, Picture, format_number, plain_axis, short, span

MAX_ROWS = 60


def draw_forest(found: Findings, palette: Palette) -> list[Picture]:
    """Differences to the baseline, in per cent of the baseline's loss; filled where distinguishable."""
    table = found.verdicts[found.verdicts["relative"].notna()]
    if table.empty:
        return []
    rows = list(each(table))[:MAX_ROWS]
    gaps = np.cumsum([0.0] + [1.55 if b.setting != a.setting else 1.0 for a, b in pairwise(rows)])
    figure = Figure(figsize=(WIDTH, 0.26 * gaps[-1] + 1.6), layout="constrained")
    axis = figure.subplots()
    for row, y in zip(rows, -gaps, strict=True):
        _draw_row(axis, row, y, palette)
    _label_rows(axis, rows, -gaps)
    axis.axvline(0, color=INK, lw=1)
    _limit(axis, rows)
    axis.grid(visible=True, axis="x")
    axis.grid(visible=False, axis="y")
    plain_axis(axis, "x")
    axis.set_xlabel("final validation loss, difference to the baseline (% of the baseline's; left is better)")
    pairs = table["num_pairs"]
    family = int(table["num_comparisons"].max())
    caption = f"Mean paired difference by seed (n = {span(pairs)} pairs). "
    if family:
        caption += (
            "Bars: 95 % interval, the wider of the studentised and the percentile-bootstrap one. Filled: "
            f"distinguishable from the baseline, Holm-corrected for {family} comparisons. Hollow: not distinguishable."
        )
    else:
        caption += "Too few seeds for an interval: nothing is distinguishable."
    if len(table) > MAX_ROWS:
        caption += f" The first {MAX_ROWS} of {len(table)} rows."
    return [Picture("forest", "Paired differences to the baseline", caption, figure)]


def _percent(row: Any, value: float) -> float:
    return float(100 * value / abs(row.baseline_loss))


def _draw_row(axis: Axes, row: Any, y: float, palette: Palette) -> None:
    name, verdict = row.optimizer, row.verdict
    color, found = palette.color(name), verdict in ("better", "worse")
    low, high = (_percent(row, value) for value in (row.low, row.high))
    if np.isfinite(low) and np.isfinite(high):
        axis.plot([low, high], [y, y], color=color, lw=2.2 if found else 1.4, alpha=1 if found else 0.75)
    axis.plot(_percent(row, row.difference), y, marker=palette.marker(name), color=color, ms=6.5,
              mfc=color if found else "white", mew=1.5)  # fmt: skip


def _label_rows(axis: Axes, rows: list[Any], positions: np.ndarray) -> None:
    axis.set_yticks(positions, [short(row.optimizer, 24) for row in rows], color=INK)
    axis.tick_params(axis="y", pad=8)
    seen: set[str] = set()
    for row, y in zip(rows, positions, strict=True):
        setting = row.setting
        if setting not in seen:
            seen.add(setting)
            text = f"{short(setting)} — vs {short(row.baseline, 20)}"
            axis.annotate(text, (0, y), xycoords=("axes fraction", "data"), xytext=(0, 9), textcoords="offset points",
                          fontsize=8.5, color=MUTED, va="bottom")  # fmt: skip
    axis.set_ylim(positions[-1] - 0.8, 1.6)


def _limit(axis: Axes, rows: list[Any]) -> None:
    ends = [_percent(row, value) for row in rows for value in (row.low, row.high, row.difference)]
    ends = [end for end in ends if np.isfinite(end)]
    # One hopeless interval must not flatten all others.
    reach = min(max(map(abs, ends)), 12 * float(np.median(np.abs(ends))) or math.inf, 200.0)
    reach = reach or 1.0
    axis.set_xlim(max(min(ends), -reach) - 0.06 * reach, min(max(max(ends), 0), reach) + 0.06 * reach)
    for row, tick in zip(rows, axis.get_yticks(), strict=False):
        value = _percent(row, row.difference)
        if abs(value) > reach:
            side, align = (1, "right") if value > 0 else (0, "left")
            axis.annotate(f"{format_number(value)} %", (side, tick), xycoords=("axes fraction", "data"), ha=align,
                          va="center", fontsize=8, color=MUTED)  # fmt: skip
