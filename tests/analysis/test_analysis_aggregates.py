"""Aggregates, profiles and tuning curves against published and hand-computed values."""

import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from bench.analysis import aggregates, profiles, tuning
from tests.analysis.frames_for_tests import final_frame

SCORES = np.array([[1.0, 2.0], [2.0, 2.0], [1.0, 1.0], [2.0, 1.0]])
OTHERS = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])


def test_interquartile_mean_equals_the_published_example() -> None:
    assert aggregates.interquartile_mean(SCORES) == 1.5


def test_probability_of_improvement_equals_the_published_example() -> None:
    assert aggregates.probability_of_improvement(SCORES, OTHERS) == pytest.approx(1 / 3)


def test_probability_of_improvement_over_itself_is_a_half() -> None:
    assert aggregates.probability_of_improvement(SCORES, SCORES) == 0.5


def test_optimality_gap_does_not_reward_what_exceeds_the_threshold() -> None:
    assert aggregates.optimality_gap(np.array([[0.5, 3.0], [0.7, 1.0]])) == pytest.approx(1 - (0.5 + 1 + 0.7 + 1) / 4)


def test_scores_run_from_the_untrained_model_to_the_best_of_the_pool() -> None:
    final = final_frame({"a": [2.0, 2.0, 2.0], "b": [6.0, 12.0, math.inf]}, initial=10.0)
    assert aggregates.normalize_scores(final).tolist() == [1.0, 1.0, 1.0, 0.5, 0.0, 0.0]


def test_aggregates_leave_out_and_name_who_misses_a_task() -> None:
    final = pd.concat(
        [final_frame({"a": [1.0] * 3, "b": [2.0] * 3}, setting="x"), final_frame({"a": [1.0] * 3}, setting="y")]
    )
    table, left_out = aggregates.aggregate_scores(final, ["x", "y"], "a")
    assert list(table["optimizer"]) == ["a"]
    assert left_out == ["b"]


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
