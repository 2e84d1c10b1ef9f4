"""Figures of the findings, for a notebook or a paper: `bench.plot.convergence(bench.analyse(...))`."""

from collections.abc import Callable
from typing import TypeAlias

from matplotlib.figure import Figure

from bench.analysis.findings import Findings
from bench.report.figures.convergence import draw_convergence
from bench.report.figures.sensitivity import draw_sensitivity
from bench.report.figures.style import Palette, Picture, make_palette, style_context
from bench.report.figures.targets import draw_targets
from bench.report.figures.tuning import draw_tuning
from bench.report.write import DRAWINGS

Draw: TypeAlias = Callable[[Findings, Palette], list[Picture]]


def convergence(found: Findings, against: str = "steps") -> Figure:
    """Validation loss against `steps` or `seconds`, a panel for each setting: median and range over runs.

    Raises:
        ValueError: there is nothing to show, as for seconds that were measured in packs only.
    """
    return _draw(draw_convergence, found, f"convergence_{against}")


def sensitivity(found: Findings, key: str = "") -> Figure:
    """Final validation loss over a swept key, as in `sensitivity(found, "optimizer.lr")`; the first one by default.

    Raises:
        ValueError: the key was not swept.
    """
    return _draw(draw_sensitivity, found, key.removeprefix("optimizer.").replace(".", "_"))


def targets(found: Findings) -> Figure:
    """Steps to every target between the untrained model and the best one. Raises ValueError where there is none."""
    return _draw(draw_targets, found)


def tuning(found: Findings) -> Figure:
    """The expected best loss after k trials of a search. Raises ValueError where no search was made."""
    return _draw(draw_tuning, found)


def figures(found: Findings) -> dict[str, Figure]:
    """All figures of the report, by the names that their files have there."""
    return {picture.name: picture.figure for draw in DRAWINGS for picture in _pictures(draw, found)}


def _draw(draw: Draw, found: Findings, part: str = "") -> Figure:
    pictures = _pictures(draw, found)
    names = [picture.name for picture in pictures]
    figure = next((picture.figure for picture in pictures if part in picture.name), None)
    if figure is None:
        raise ValueError(f"these runs have nothing to show here; there is {', '.join(names) or 'no such picture'}")
    return figure


def _pictures(draw: Draw, found: Findings) -> list[Picture]:
    with style_context():
        return draw(found, make_palette(found.used["optimizer"]))
