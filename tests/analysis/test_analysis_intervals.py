"""Intervals, corrections, failures and power: by hand, against scipy, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from bench.analysis import bootstrap, failures, intervals, power


def test_interval_of_one_task_is_the_paired_t_interval() -> None:
    values = np.array([0.3, 0.1, 0.4, 0.15, 0.9])
    interval = intervals.mean_interval([values])
    reference = stats.ttest_1samp(values, 0)
    assert (interval.low, interval.high) == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert interval.p_value == pytest.approx(reference.pvalue)


def test_interval_over_two_equally_noisy_tasks_has_the_degrees_of_both() -> None:
    task = np.array([1.0, 2.0, 3.0])
    interval = intervals.mean_interval([task, task + 10])
    error = math.sqrt(2 * (1.0 / 3) / 4)
    assert interval.mean == 7.0
    assert interval.high - interval.mean == pytest.approx(error * stats.t.ppf(0.975, 4))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_units_carry_no_interval(count: int) -> None:
    interval = intervals.mean_interval([np.ones(count)])
    assert (interval.low, interval.high, interval.p_value) == (-math.inf, math.inf, 1.0)


def test_holm_by_hand() -> None:
    assert intervals.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert intervals.holm([]) == []


@pytest.mark.parametrize("noise", ["normal", "standard_t", "lognormal"])
@pytest.mark.parametrize("count", [5, 10])
def test_interval_of_a_difference_covers_under_every_noise(noise: str, count: int) -> None:
    rng = np.random.default_rng(count)
    arguments = {"standard_t": (3,), "lognormal": (0.0, 0.8)}.get(noise, ())
    draw = getattr(rng, noise)
    covered = 0
    for _ in range(500):
        low, high = intervals.mean_interval([draw(*arguments, size=count) - draw(*arguments, size=count)])[1:3]
        covered += low <= 0 <= high
    assert covered / 500 >= 0.93


def test_failure_interval_is_clopper_and_pearsons() -> None:
    assert failures.failure_interval(0, 5) == pytest.approx((0.0, 1 - 0.025**0.2))
    assert failures.failure_interval(5, 5)[1] == 1.0
    assert failures.failure_interval(0, 0) == (0.0, 1.0)


def test_failures_are_compared_exactly() -> None:
    # All 5 against none of 5: 1 of the 252 ways to deal 5 failures, or its mirror.
    assert failures.failure_p_value(5, 5, 0, 5) == pytest.approx(2 / 252)
    assert failures.failure_p_value(0, 5, 0, 5) == 1.0


def test_a_test_that_could_not_reject_is_known_before() -> None:
    assert failures.smallest_p_value(0, 5, 0, 5) == 1.0
    assert failures.smallest_p_value(1, 5, 1, 5) == pytest.approx(2 * 10 / 45)
    assert failures.smallest_p_value(3, 5, 2, 5) == pytest.approx(2 / 252)


@pytest.mark.parametrize(
    ("difference", "num_pairs", "alpha"), [(0.0, 5, 0.05), (4.0, 5, 0.05 / 26), (1.5, 5, 0.05), (1.0, 12, 0.0155)]
)
def test_power_agrees_with_monte_carlo_to_one_per_cent(difference: float, num_pairs: int, alpha: float) -> None:
    rng = np.random.default_rng(3)
    draws = difference + rng.standard_normal((20_000, num_pairs))
    found = stats.ttest_1samp(draws, 0, axis=1).pvalue <= alpha
    assert power.paired_power(difference, 1.0, num_pairs, alpha) == pytest.approx(found.mean(), abs=0.01)


def test_power_is_certain_only_far_out_and_never_unknown() -> None:
    # scipy's noncentral t has no answer in its far tail: 3 sigma at this level once counted as found.
    assert power.paired_power(3.0, 1.0, 5, 0.05 / 26) < 0.6
    assert power.paired_power(1e6, 1.0, 5) == 1.0


def test_detectable_difference_and_units_needed_invert_power() -> None:
    difference = power.detectable_difference(2.0, 7)
    assert power.paired_power(difference, 2.0, 7) == pytest.approx(power.POWER)
    assert power.units_needed(difference * 1.0001, 2.0) == 7
    assert power.units_needed(1e-9, 1.0) == math.inf
    assert math.isnan(power.units_needed(math.nan, 1.0))


def test_upper_limit_of_sigma_is_below_the_truth_in_one_study_of_five() -> None:
    rng = np.random.default_rng(5)
    below = 0
    for _ in range(600):
        baseline, arms = rng.standard_normal(5), rng.standard_normal((4, 5))
        below += power.pooled_sigma(list(arms - baseline)) < math.sqrt(2)
    assert below / 600 == pytest.approx(0.2, abs=0.06)


def test_resampled_means_spread_as_the_means_themselves_do() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((400, 5, 1))
    spreads = [bootstrap.resample_means(sample, rng, 200).var() for sample in values]
    assert np.mean(spreads) == pytest.approx(1 / 5, rel=0.1)


def test_resampling_keeps_rows_together_and_the_global_random_state_alone() -> None:
    before = np.random.get_state()[1].copy()
    means = bootstrap.resample_means(np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]]), bootstrap.generator(0, "x"), 50)
    assert means[:, 1] == pytest.approx(10 * means[:, 0])
    assert (np.random.get_state()[1] == before).all()
    again = bootstrap.resample_means(np.array([[1.0], [2.0], [4.0]]), bootstrap.generator(0, "x"), 50)
    assert (again[:, 0] == means[:, 0]).all()
