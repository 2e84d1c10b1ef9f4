"""Single pictures: where a mark stands that a reader goes by."""

from pathlib import Path

import pytest

from bench.report.figures.convergence import draw_convergence
from bench.report.figures.sensitivity import draw_sensitivity
from bench.report.figures.style import make_palette, style_context
from tests.report import synthetic
from tests.report.pages import findings


def test_the_star_is_the_cell_that_was_chosen_and_not_the_lowest_median(tmp_path: Path) -> None:
    for seed in range(3):
        synthetic.write_run(tmp_path, lr=1e-3, seed=seed, sweep="grid", final=0.9 if seed == 2 else 0.1)
        synthetic.write_run(tmp_path, lr=3e-3, seed=seed, sweep="grid", final=0.2)
        synthetic.write_run(tmp_path, lr=1e-2, seed=seed, sweep="grid", final=0.5)
    found = findings(tmp_path)
    assert found.chosen["cell"].item().count('"optimizer.lr": 0.003') == 1
    [picture] = [one for one in draw_sensitivity(found, make_palette(["adamw"])) if one.name == "sensitivity_lr"]
    stars = [line for line in picture.figure.axes[0].lines if line.get_marker() == "*"]
    assert [list(star.get_xdata()) for star in stars] == [[0.003]]
    assert stars[0].get_ydata()[0] == pytest.approx(0.2, abs=0.03)


def test_no_curve_runs_through_the_word_target(tmp_path: Path) -> None:
    for seed in range(2):
        synthetic.write_run(tmp_path, seed=seed)
    with style_context():
        figure = draw_convergence(findings(tmp_path), make_palette(["adamw"]))[0].figure
        figure.draw_without_rendering()
        [word] = [text for text in figure.axes[0].texts if text.get_text() == "target"]
        assert word.get_window_extent().x0 > figure.axes[0].get_window_extent().x1
        assert word.get_window_extent().x1 <= figure.bbox.x1
