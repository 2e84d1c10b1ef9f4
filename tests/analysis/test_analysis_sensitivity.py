"""Flat width, edges and drift on curves whose answer can be read off."""

import math

import numpy as np
import pandas as pd
import pytest

from bench.analysis import epsilon, sensitivity
from bench.analysis.flat_width import width_interval
from bench.report.sentences import eps_sentences
from tests.analysis.frames_for_tests import cell_frame

LR, EPS = "optimizer.lr", "optimizer.eps"


def test_flat_width_by_hand() -> None:
    values = np.array([-4.0, -3.0, -2.0, -1.0, 0.0])
    losses = np.array([3.0, 1.2, 1.0, 1.05, math.inf])
    region = sensitivity.flat_width(values, losses, 0.1)
    # 1.1 lies half way from 1.0 to 1.2; upwards the region ends at the last value that did not diverge.
    expected = {"low": -2.5, "high": -1.0, "width": 1.5, "open_low": False, "open_high": False}
    assert region == pytest.approx(expected)


def test_flat_region_at_the_end_of_the_grid_is_a_lower_bound() -> None:
    region = sensitivity.flat_width(np.array([-3.0, -2.0, -1.0]), np.array([1.0, 1.0, 9.0]), 0.8)
    assert region["open_low"]
    assert not region["open_high"]
    assert region["width"] == pytest.approx(1.1)


def test_flat_width_where_everything_diverged_is_unknown() -> None:
    assert math.isnan(sensitivity.flat_width(np.array([0.0, 1.0]), np.array([math.inf, math.inf]), 0.1)["width"])


def grid(losses: dict[tuple[float, float], float]) -> pd.DataFrame:
    return cell_frame([({LR: lr, EPS: eps}, loss) for (lr, eps), loss in losses.items()])


LOSSES = {(0.001, 1e-8): 1.0, (0.01, 1e-8): 2.0, (0.1, 1e-8): 4.0, (0.001, 1e-4): 5.0, (0.01, 1e-4): 1.5,
          (0.1, 1e-4): 2.0, (0.001, 1e-2): 8.0, (0.01, 1e-2): 8.0, (0.1, 1e-2): 8.0}  # fmt: skip


def test_response_curve_tunes_the_other_keys_anew_and_keeps_the_slice() -> None:
    curves = sensitivity.response_curves(grid(LOSSES))
    eps = curves[curves["key"] == EPS]
    assert eps["loss"].tolist() == [1.0, 1.5, 8.0]
    assert eps["fixed_loss"].tolist() == [1.0, 5.0, 8.0]


def test_a_best_lr_that_stays_has_a_slope_of_zero_without_what_rounding_leaves() -> None:
    drift = epsilon.best_lr_drift(grid({(lr, 10.0**k): abs(lr - 3e-4) for lr in (1e-4, 3e-4) for k in range(-9, -2)}))
    assert set(drift["slope"]) == {0.0}


def test_best_lr_drifts_with_eps_where_something_is_learned() -> None:
    drift = epsilon.best_lr_drift(grid(LOSSES))
    assert drift["best_lr"].tolist()[:2] == [0.001, 0.01]
    assert drift["learned"].tolist() == [True, True, False]
    assert drift["drift"].iloc[0] == pytest.approx(1.0)
    assert drift["slope"].iloc[0] == pytest.approx(1 / 4)


def test_best_cell_on_an_edge_is_flagged_with_the_direction() -> None:
    edges = sensitivity.edge_flags(grid(LOSSES), {})
    assert edges[["key", "direction"]].to_numpy().tolist() == [[EPS, "lower"], [LR, "lower"]]


def test_edge_of_a_random_search_is_the_end_of_its_space() -> None:
    values = np.geomspace(2e-4, 0.9, 12)
    drawn = [({LR: lr, "optimizer.weight_decay": lr / 3}, 1.0 + i) for i, lr in enumerate(values)]
    cells = cell_frame(drawn, is_search=True)
    assert "optimizer.lr" not in set(sensitivity.edge_flags(cells, {"adam": {LR: (1e-6, 1.0)}})["key"])
    assert "optimizer.lr" in set(sensitivity.edge_flags(cells, {"adam": {LR: (1.5e-4, 1.0)}})["key"])


def test_an_axis_of_two_values_has_edges_and_zero_has_nothing_below() -> None:
    two = sensitivity.edge_flags(cell_frame([({LR: 0.1}, 1.0), ({LR: 0.01}, 2.0)]), {})
    assert two[["key", "direction"]].to_numpy().tolist() == [[LR, "higher"]]
    decay = "optimizer.weight_decay"
    assert sensitivity.edge_flags(cell_frame([({decay: 0.0}, 1.0), ({decay: 0.1}, 2.0)]), {}).empty


def test_the_interval_of_a_width_pairs_values_by_seed() -> None:
    """Seeds that shift the whole curve leave the width alone; seeds that bend it do not."""
    shifts, bends = np.array([0.0, 0.5, 1.0, 1.5, 2.0]), np.array([1.0, 2.0, 1.5, 4.0, 3.0])
    shifted, bent = (
        cell_frame([({LR: 10.0**x}, 0.0) for x in (-3, -2, -1, 0)]).assign(
            losses=[tuple(losses) for losses in curves.T], seeds=[tuple(range(5))] * 4
        )
        for curves in (shifts[:, None] + [3.0, 1.0, 2.0, 4.0], 1 + bends[:, None] * [2.0, 0.0, 1.0, 3.0])
    )
    position = np.array([-3.0, -2.0, -1.0, 0.0])
    results = [width_interval(position, [cells.iloc[[i]] for i in range(4)], 0.5) for cells in (shifted, bent)]
    assert results[0] == pytest.approx((0.75, 0.75, 5))
    low, high, _ = results[1]
    assert 0.5 * (1 / 4 + 1 / 8) - 1e-9 <= low < 0.5 * (1 / 2 + 1 / 4) < high <= 0.5 * (1 + 1 / 2) + 1e-9
    assert math.isnan(width_interval(position, [shifted.iloc[[0]].assign(seeds=[(0, 1, 9, 8, 7)]),
                                                shifted.iloc[[1]]], 0.5)[0])  # fmt: skip


def test_a_random_search_has_no_flat_width() -> None:
    drawn = [({EPS: 10.0**-i}, 1.0 + i) for i in range(4)]
    for is_search in (False, True):
        cells = cell_frame(drawn, is_search=is_search)
        assert sensitivity.flat_widths(sensitivity.response_curves(cells), cells).empty == is_search


def test_widths_share_one_delta_per_setting() -> None:
    cells = pd.concat([cell_frame([({LR: 10.0**-i}, 1.0 + i) for i in range(4)], optimizer=name) for name in "ab"])
    cells.loc[cells["optimizer"] == "b", "loss"] *= 4
    widths = sensitivity.flat_widths(sensitivity.response_curves(cells), cells)
    assert widths["delta"].tolist() == [0.05, 0.05]
    assert widths["width"].tolist() == pytest.approx([0.05, 0.0125])


def test_sentence_on_eps_tells_whether_the_default_lies_in_the_flat_region() -> None:
    cells = grid(LOSSES)
    curves = sensitivity.response_curves(cells)
    ((headline, details),) = eps_sentences(sensitivity.flat_widths(curves, cells), curves)
    assert headline == "task: the flat region of adam's eps is at least 0.4 decades wide"
    assert details.endswith("the default 1e-8 lies inside and reaches 1.")
