"""One look for every picture: quiet axes, and an optimizer has one colour, marker and line everywhere."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import matplotlib as mpl
import pandas as pd
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axes._base import _AxesBase
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.typing import LineStyleType

# Okabe & Ito's colours without yellow and black (invisible on white or on dark), and two that stay apart from them.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8172B3", "#8C8C00")
MARKERS = ("o", "s", "^", "D", "v", "h", ">", "<")
LINES: tuple[LineStyleType, ...] = ("-", (0, (4, 1.6)), (0, (1.2, 1.2)))
# Chosen so that the names seen most (adam, adamw, madam, adamuon, muon, lion, sgd) wish for different slots.
SALT = "7916"
INK, MUTED, GRID, PAPER = "#1b2430", "#5b6675", "#e2e6eb", "#ffffff"
# The first three are equally wide: what was laid out in one fits in the others.
FONTS = ("Arial", "Helvetica", "Liberation Sans", "DejaVu Sans")
WIDTH = 10.0
NARROW = 4.4
MAX_PANELS = 18
MAX_LINES = 24
MAX_LABEL = 46
LEGEND_ROW = 0.2  # inches


@dataclass(frozen=True)
class Picture:
    """A figure with the words around it; `name` is its file name without ending."""

    name: str
    title: str
    caption: str
    figure: Figure


class LineStyle(TypedDict):
    """Keywords of a line for `Axes.plot`."""

    color: str
    linestyle: LineStyleType


@dataclass(frozen=True)
class Palette:
    """Optimizer -> slot of the style table; a name keeps its slot as long as no other claims the same one.

    Attributes:
        narrow: Panels stand below each other, for a phone.
    """

    slots: dict[str, int]
    narrow: bool = False

    def color(self, name: str) -> str:
        """The optimizer's colour."""
        return COLORS[self.slots.get(name, 0) % len(COLORS)]

    def marker(self, name: str) -> str:
        """The optimizer's marker."""
        slot = self.slots.get(name, 0)
        return MARKERS[(slot + slot // len(COLORS)) % len(MARKERS)]

    def line(self, name: str) -> LineStyle:
        """Keywords for `Axes.plot`: the optimizer's colour and dashes."""
        dashes = LINES[self.slots.get(name, 0) // len(COLORS) % len(LINES)]
        return {"color": self.color(name), "linestyle": dashes}


def make_palette(names: Iterable[str], *, narrow: bool = False) -> Palette:
    """Slots by a hash of the name, so that a report of other runs colours the same optimizer alike.

    Two names that want one slot, and only they, move on to the next free one, in the order of the alphabet.
    """
    slots: dict[str, int] = {}
    for count, name in enumerate(sorted(set(names))):
        tier, taken = count // len(COLORS) * len(COLORS), set(slots.values())
        wish = hashlib.sha256((SALT + name).encode()).digest()[0] % len(COLORS)
        slots[name] = next(slot for i in range(len(COLORS)) if (slot := tier + (wish + i) % len(COLORS)) not in taken)
    return Palette(slots, narrow)


def rc_params() -> dict[str, object]:
    """Settings for `matplotlib.rc_context`."""
    available = {font.name for font in font_manager.fontManager.ttflist}
    return {
        # The last one ships with matplotlib and has the glyphs that others lack.
        "font.family": [*[name for name in FONTS[:-1] if name in available][:1], FONTS[-1]],
        "font.size": 9.5, "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "axes.titlepad": 9, "axes.labelsize": 9.5, "axes.labelcolor": MUTED, "axes.labelpad": 5,
        "text.color": INK, "axes.titlecolor": INK, "xtick.color": MUTED, "ytick.color": MUTED,
        "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "xtick.major.size": 3, "ytick.major.size": 0,
        "xtick.minor.size": 0, "ytick.minor.size": 0, "axes.edgecolor": MUTED, "axes.linewidth": 0.7,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
        "axes.grid": True, "axes.grid.axis": "y", "grid.color": GRID, "grid.linewidth": 0.8, "axes.axisbelow": True,
        "lines.linewidth": 1.9, "lines.markersize": 5, "lines.solid_capstyle": "round", "legend.frameon": False,
        "legend.fontsize": 9, "legend.handlelength": 2.2, "figure.facecolor": PAPER, "axes.facecolor": "none",
        "savefig.facecolor": PAPER, "svg.fonttype": "none", "svg.hashsalt": "report", "hatch.linewidth": 0.6,
        # A "$" in a name is a dollar sign, not the start of a formula.
        "text.parse_math": False, "axes.unicode_minus": True,
    }  # fmt: skip


def panels(
    titles: Sequence[str],
    palette: Palette,
    *,
    columns: int | None = None,
    height: float = 2.9,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure of small multiples, one axes per title, at most `MAX_PANELS`.

    Args:
        titles: One per panel.
        palette: Tells whether the figure is for a narrow page.
        columns: Panels beside each other on a wide page; three, or two where that leaves no gap.
        height: Of a panel, in inches.
        heights: One for each panel, where they differ.
    """
    titles = list(titles)[:MAX_PANELS]
    columns = columns or (2 if len(titles) in (2, 4) else 3)
    columns = 1 if palette.narrow else min(columns, len(titles)) or 1
    sizes = list(heights or [height] * len(titles))[: len(titles)]
    rows = [max(sizes[start : start + columns]) for start in range(0, len(sizes), columns)]
    # A single panel as wide as the page would be a poster.
    width = NARROW if palette.narrow else WIDTH if columns > 1 else 6.4
    figure = Figure(
        figsize=(width, sum(rows) + 0.5),
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.04, hspace=0.06),
    )
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=rows)
    axes = [axis for row in grid for axis in row]
    for axis in axes[len(titles) :]:
        axis.set_visible(False)
    for axis, title in zip(axes, titles, strict=False):
        axis.set_title(short(title))
    return figure, axes[: len(titles)]


def short(text: str, limit: int = MAX_LABEL) -> str:
    """The text, cut to what fits a label."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def legend_below(figure: Figure, palette: Palette, names: Sequence[str], *, extra: Sequence[Artist] = (),
                 markers: bool = True) -> None:  # fmt: skip
    """One legend of optimizers for the whole figure, under it."""
    handles: list[Artist] = [
        Line2D([], [], label=short(name, 28), marker=palette.marker(name) if markers else "", **palette.line(name))
        for name in names
    ]
    handles_below(figure, [*handles, *extra])


def handles_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """A legend under the figure, in as many columns as fit; for more than two rows the figure grows."""
    longest = max((len(str(handle.get_label())) for handle in handles), default=1)
    columns = max(1, min(len(handles), int(figure.get_figwidth() * 11 / (longest + 6))))
    more_rows = max(0, math.ceil(len(handles) / columns) - 2)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * more_rows)
    figure.legend(
        handles=list(handles), loc="outside lower center", ncols=columns, columnspacing=1.8, handletextpad=0.6
    )


def span(counts: pd.Series) -> str:
    """5, or 3 to 5, for a caption."""
    return f"{counts.min():g}" if counts.min() == counts.max() else f"{counts.min():g} to {counts.max():g}"


def format_number(value: float, _position: int = 0) -> str:
    """3e-4 rather than 0.0003 or a formula, 0.01 and 1000 as they are."""
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.6g}"
    if "e" in text or 0 < abs(value) < 9.99e-4 or abs(value) >= 1e5:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return text.replace("-", "−", int(value < 0))


def log_axis(axis: _AxesBase, which: str) -> None:
    """A log axis with plain numbers at decades; more of them where it spans fewer than three."""
    getattr(axis, f"set_{which}scale")("log")
    low, high = getattr(axis, f"get_{which}lim")()
    ruler = getattr(axis, f"{which}axis")
    span_of_axis = high / low
    subs = (1.0,) if span_of_axis >= 1000 else (1.0, 3.0) if span_of_axis >= 50 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    ruler.set_major_locator(LogLocator(subs=subs, numticks=9))
    ruler.set_major_formatter(FuncFormatter(format_number))
    ruler.set_minor_locator(NullLocator())


def log_axis_from_zero(axis: _AxesBase, smallest: float) -> None:
    """A log axis along x on which zero stands, and is labelled, a decade to the left of the smallest value."""
    log_axis(axis, "x")
    low, high = axis.get_xlim()
    zero = zero_position(smallest)
    ticks = [tick for tick in axis.xaxis.get_major_locator().tick_values(low, high) if smallest <= tick <= high]
    axis.set_xticks([zero, *ticks], ["0", *(format_number(tick) for tick in ticks)])
    axis.set_xlim(low, high)


def zero_position(smallest: float) -> float:
    """Where zero stands on a log axis whose smallest value is given."""
    return smallest / 10


def plain_axis(axis: _AxesBase, which: str) -> None:
    """A linear axis with the same plain numbers and few ticks."""
    ruler = getattr(axis, f"{which}axis")
    ruler.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    ruler.set_major_formatter(FuncFormatter(format_number))


def annotate_line(axis: Axes, x: float, text: str) -> None:
    """A vertical line with its name beside it, at the top."""
    axis.axvline(x, color=MUTED, lw=0.9, ls=(0, (1.5, 2)), zorder=1)
    axis.annotate(
        text, (x, 0.98), xycoords=("data", "axes fraction"), xytext=(-4, 0), textcoords="offset points",
        rotation=90, ha="right", va="top", fontsize=8, color=MUTED,
    )  # fmt: skip


def style_context() -> Any:
    """The look, for the time of drawing and saving."""
    return mpl.rc_context(rc_params())  # type: ignore[arg-type]
