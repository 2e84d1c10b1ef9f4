"""What a step costs, from interleaved rounds that were timed for the purpose."""

from matplotlib.axes import Axes

from bench.analysis.findings import Findings
from bench.analysis.frames import each
from bench.report.figures.style import INK, MAX_LINES, Palette, Picture, panels, plain_axis, short, span


def draw_costs(found: Findings, palette: Palette) -> list[Picture]:
    """Milliseconds per step with their intervals; nothing where nobody measured them."""
    costs = found.costs[found.costs["step_seconds"].notna()]
    settings = [s for s in found.settings["setting"] if (costs["setting"] == s).any()]
    if not settings:
        return []
    counts = [min(int((costs["setting"] == setting).sum()), MAX_LINES) for setting in settings]
    figure, axes = panels(settings, palette, columns=2, heights=[0.27 * count + 1.2 for count in counts])
    for axis, setting in zip(axes, settings, strict=False):
        _draw_panel(axis, costs[costs["setting"] == setting].sort_values("step_seconds").head(MAX_LINES), palette)
    caption = (
        f"Geometric mean over n = {span(costs['num_rounds'])} interleaved rounds of `python -m bench.times`, with its "
        "95 % interval. Training runs are not used: what else the machine did would count."
    )
    return [Picture("step_times", "What a step costs", caption, figure)]


def _draw_panel(axis: Axes, rows: object, palette: Palette) -> None:
    names = []
    for y, row in enumerate(each(rows)):  # type: ignore[arg-type]
        color = palette.color(row.optimizer)
        axis.barh(-y, 1000 * row.step_seconds, height=0.62, color=color, alpha=0.85)
        axis.plot([1000 * row.low, 1000 * row.high], [-y, -y], color=INK, lw=1.4)
        names.append(short(row.optimizer, 22))
    axis.set_yticks([-y for y in range(len(names))], names, color=INK)
    axis.grid(visible=False, axis="y")
    axis.grid(visible=True, axis="x")
    axis.set_xlim(left=0)
    plain_axis(axis, "x")
    axis.set_xlabel("time per training step (ms)")
