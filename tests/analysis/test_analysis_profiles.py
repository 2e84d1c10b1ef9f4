"""Profiles and tuning curves against published and hand-computed values."""

import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from bench.analysis import profiles, tuning


def test_profile_score_by_hand() -> None:
    # r = 1 and 2 on the first task, missed on the second by one, by both on the third.
    ratios = profiles.time_ratios(np.array([[10.0, 20.0], [math.inf, 5.0], [math.inf, math.inf]]))
    assert profiles.exact_score(ratios) == pytest.approx([(4 - 1) / 3 / 3, ((4 - 2) / 3 + 1) / 3])


def test_profile_counts_ratios_beyond_four_as_not_reached() -> None:
    ratios = profiles.time_ratios(np.array([[1.0, 4.0, 4.001]]))
    assert ratios.tolist() == [[1.0, 4.0, math.inf]]


def test_trapezoid_on_100_points_is_near_the_exact_integral_but_not_equal() -> None:
    times = np.random.default_rng(0).lognormal(size=(20, 5))
    ratios = profiles.time_ratios(times)
    exact, trapezoid = profiles.exact_score(ratios), profiles.trapezoid_score(ratios)
    assert np.abs(exact - trapezoid).max() < 3 / 99
    taus = np.linspace(1, 4, 100)
    by_hand = np.array([[np.mean(ratios[:, k] <= tau) for k in range(5)] for tau in taus])
    assert trapezoid == pytest.approx(np.trapezoid(by_hand, taus, axis=0) / 3)


def test_profile_ignores_optimizers_that_did_not_run_everywhere() -> None:
    rows = [("x", "a", 1.0), ("x", "b", 2.0), ("y", "a", 1.0), ("y", "b", math.inf), ("y", "c", 1.0), ("z", "c", 1.0)]
    times = pd.DataFrame(rows, columns=["setting", "optimizer", "steps_to_target"])
    medians, left_out = profiles.pool_times(times, "steps_to_target", ["x", "y", "z"])
    assert list(medians.columns) == ["a", "b"]
    assert list(medians.index) == ["x", "y"]
    assert left_out == ["c"]


@pytest.mark.parametrize("num_trials", [1, 2, 5, 7])
def test_expected_best_equals_the_mean_over_all_subsets(num_trials: int) -> None:
    losses = np.random.default_rng(num_trials).normal(size=num_trials)
    expected = [np.mean([min(draw) for draw in combinations(losses, k)]) for k in range(1, num_trials + 1)]
    assert tuning.expected_best(losses) == pytest.approx(expected)


def test_order_weights_stay_exact_for_many_trials() -> None:
    weights = tuning.order_weights(2000)
    assert weights.sum(axis=1) == pytest.approx(np.ones(2000))
    assert weights[-1, 0] == pytest.approx(1.0)


def search_frame(losses: list[list[float]]) -> pd.DataFrame:
    """Searches of two hyperparameters each: losses by search and trial."""
    rows = [
        {"setting": "task", "optimizer": "adam", "sweep": "search", "stage": "tuning", "replicate": number,
         "cell": f"{number}.{trial}", "finite_loss": loss, "hyperparameters": {"lr": 0.1 * trial, "eps": 0.2 * trial}}
        for number, search in enumerate(losses) for trial, loss in enumerate(search)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_tuning_curve_is_the_mean_over_searches_with_their_range() -> None:
    one = tuning.tuning_curves(search_frame([[4.0, 1.0, 2.0, 3.0]]))
    assert one["expected"].iloc[-1] == 1.0
    assert one["low"].isna().all()
    three = tuning.tuning_curves(search_frame([[4.0, 1.0, 2.0, 3.0], [5.0, 2.0, 3.0, 4.0], [6.0, 3.0, 4.0, 5.0]]))
    assert three["num_searches"].tolist() == [3] * 4
    assert three["expected"].iloc[-1] == 2.0
    assert three[["low", "high"]].iloc[-1].tolist() == [1.0, 3.0]


def test_tuned_is_compared_with_the_defaults_that_all_searches_share() -> None:
    rows = [
        ("task", "adam", number, stage, cell, loss)
        for number in range(3)
        for stage, cell, loss in (("tuning", "default", 1.0), ("tuning", f"{number}", 0.4), ("fresh", f"{number}", 0.5))
    ]
    used = pd.DataFrame(rows, columns=["setting", "optimizer", "replicate", "stage", "cell", "loss"])
    final = used[used["stage"] == "fresh"].assign(fresh=True)
    row = tuning.tuned_against_default(used, final).iloc[0]
    assert row["num_searches"] == 3
    assert math.exp(row["difference"]) == pytest.approx(0.5)
    assert tuning.tuned_against_default(used[used["replicate"] == 0], final).empty
