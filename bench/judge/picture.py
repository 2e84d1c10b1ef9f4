"""The verdict as a picture: per task the ratio of losses with its interval, against the margin that matters."""

import io
from pathlib import Path

import pandas as pd

from bench.analysis.judged import Verdict
from bench.judge.verdict import keep
from bench.report.figures.style import MUTED, Picture, make_palette, panels, style_context
from bench.report.figures.verdicts import COLORS, draw_ratios
from bench.report.svg import save_svg

PICTURE_NAME = "verdict"


def write_picture(verdict: Verdict, results_dir: Path, name: str) -> Path:
    """Write `verdict.svg` and `verdict.png` as `keep` does; returns the latter. Raises StoreError."""
    with style_context():
        picture = draw_verdict(verdict)
        svg, png = save_svg(picture), io.BytesIO()
        picture.figure.savefig(png, format="png", dpi=160)
    keep(svg.encode(), results_dir / f"{PICTURE_NAME}.svg", name)
    return keep(png.getvalue(), results_dir / f"{PICTURE_NAME}.png", name)


def draw_verdict(verdict: Verdict) -> Picture:
    """A row per task, its word at the right."""
    looks = [task.looks[-1] for task in verdict.tasks]
    numbers = [[look.difference, look.low, look.high] for look in looks]
    rows = pd.DataFrame(numbers, columns=["difference", "low", "high"], dtype=float).assign(
        verdict=[task.verdict for task in verdict.tasks], relevant=[task.margin for task in verdict.tasks], scale="log"
    )
    title = f"Is {verdict.candidate} better than {verdict.baseline}?"
    figure, (axis,) = panels([title], make_palette([]), heights=[0.34 * len(rows) + 1.3])
    names = [f"{task.task}, {look.searches} searches" for task, look in zip(verdict.tasks, looks, strict=True)]
    draw_ratios(axis, rows, names)
    for y, task in enumerate(verdict.tasks):
        words = "\n".join(filter(None, [task.verdict, task.failure_verdict]))
        axis.annotate(words, (1, -y), xycoords=("axes fraction", "data"), xytext=(8, 0), textcoords="offset points",
                      va="center", fontsize=9, color=COLORS.get(task.verdict, MUTED))  # fmt: skip
    axis.set_xlabel("ratio of final test losses, left is better; band: too small to matter")
    return Picture(PICTURE_NAME, title, "", figure)
