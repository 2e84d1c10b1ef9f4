"""What a larger tuning budget buys: expected best loss after k trials of the same search."""

from bench.analysis.findings import Findings
from bench.analysis.frames import groups
from bench.report.figures.sensitivity import limit_losses
from bench.report.figures.style import MAX_LINES, Palette, Picture, legend_below, panels, plain_axis, span


def draw_tuning(found: Findings, palette: Palette) -> list[Picture]:
    """Expected best against the number of trials, by setting; nothing without a random search."""
    curves = found.tuning
    settings = [s for s in found.settings["setting"] if (curves["setting"] == s).any()]
    if not settings:
        return []
    figure, axes = panels(settings, palette)
    for axis, setting in zip(axes, settings, strict=False):
        mine = curves[curves["setting"] == setting]
        for (optimizer, _), curve in list(groups(mine, ["optimizer", "sweep"]))[:MAX_LINES]:
            axis.plot(curve["k"], curve["expected"], **palette.line(optimizer))
            axis.fill_between(curve["k"], curve["low"], curve["high"], color=palette.color(optimizer), alpha=0.08, lw=0)
        limit_losses(axis, mine["expected"])
        plain_axis(axis, "x")
        axis.set_xlabel("tuning trials")
    axes[0].set_ylabel("expected best final loss")
    legend_below(figure, palette, sorted(curves["optimizer"].unique())[:MAX_LINES], markers=False)
    trials = curves.groupby(["setting", "optimizer", "sweep"])["num_trials"].first()
    caption = (
        "Expected lowest final validation loss among k trials drawn from the same search without replacement (exact "
        f"order statistics; n = {span(trials)} trials per search), mean over searches (n = "
        f"{span(curves['num_searches'])}); band: their range. A diverged trial counts as an untrained model."
    )
    return [Picture("tuning_budget", "What does tuning buy?", caption, figure)]
