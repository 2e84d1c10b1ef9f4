"""Intervals, corrections and power: by hand, against scipy, and by simulating studies whose answer is known."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import bench
from bench.analysis import bootstrap, intervals, power, verdicts
from tests.analysis.frames_for_tests import final_frame

SCRIPT = """
import numpy as np
from bench.analysis.intervals import paired_interval
print(paired_interval([np.array([0.1, 0.4, -0.2, 0.3]), np.array([0.0, 0.5, 0.2])], seed=3, label="q"))
"""


@pytest.mark.slow
def test_same_seed_gives_the_same_interval_in_another_process() -> None:
    command = [sys.executable, "-c", SCRIPT]
    environment = os.environ | {"PYTHONPATH": str(Path(bench.__file__).parents[1])}
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    strata = [np.array([0.1, 0.4, -0.2, 0.3]), np.array([0.0, 0.5, 0.2])]
    expected = f"{intervals.paired_interval(strata, seed=3, label='q')}\n"
    assert [run.stdout for run in runs] == [expected, expected]


def test_bootstrap_leaves_the_global_random_state_alone() -> None:
    before = np.random.get_state()[1].copy()
    intervals.paired_interval([np.arange(5.0)], seed=0, label="x")
    assert (np.random.get_state()[1] == before).all()


def test_bootstrap_resamples_whole_rows_within_their_stratum() -> None:
    strata = [np.array([[1.0, 10.0], [2.0, 20.0]]), np.array([[7.0, 70.0]])]
    first, second = bootstrap.resample(strata, bootstrap.generator(0, "x"), 50)
    assert first.shape == (50, 2, 2)
    assert (first[..., 1] == 10 * first[..., 0]).all()
    assert set(first[..., 0].ravel()) == {1.0, 2.0}
    assert (second == [7.0, 70.0]).all()


def test_studentised_interval_of_one_task_is_the_paired_t_interval() -> None:
    values = np.array([0.3, 0.1, 0.4, 0.15, 0.9])
    low, high, p_value = intervals.studentised_interval([values])
    reference = stats.ttest_1samp(values, 0)
    assert (low, high) == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert p_value == pytest.approx(reference.pvalue)


def test_interval_shown_is_the_envelope_of_both() -> None:
    result = intervals.paired_interval([np.array([1.0, 2.0, 4.0])], seed=0, label="x")
    assert result["low"] == min(result["t_low"], result["bootstrap_low"])
    assert result["high"] == max(result["t_high"], result["bootstrap_high"])


def test_two_pairs_carry_no_interval() -> None:
    result = intervals.paired_interval([np.array([1.0, 1.1])], seed=0, label="x")
    assert (result["low"], result["high"], result["p_value"]) == (-math.inf, math.inf, 1.0)


def test_holm_by_hand() -> None:
    assert intervals.holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])


def test_power_equals_a_textbook_value() -> None:
    # G*Power 3.1: paired t-test, d = 0.5, n = 34, two-sided 0.05: power 0.8077775.
    assert power.paired_power(0.5, 1.0, 34) == pytest.approx(0.8077775, abs=1e-6)
    assert power.pairs_needed(0.5, 1.0) == 34


def test_detectable_difference_and_pairs_needed_are_inverse() -> None:
    for count in (3, 5, 10, 40):
        assert power.pairs_needed(1.000001 * power.detectable_difference(2.5, count), 2.5) == count


def test_noise_floor_pools_variances_by_hand() -> None:
    noise = power.noise_floor(final_frame({"a": [1.0, 2.0, 3.0], "b": [5.0, 5.0], "c": [1.0]}))
    assert noise["sigma"].item() == pytest.approx(math.sqrt((2 * 1.0 + 1 * 0.0) / 3))


def simulate(num_seeds: int, difference: float, num_studies: int, seed: int) -> float:
    """Share of simulated studies of two optimizers, through the whole comparison, that find a difference."""
    rng = np.random.default_rng(seed)
    found = 0
    for study in range(num_studies):
        shared = rng.normal(size=num_seeds)
        losses = {name: 3 + shared + rng.normal(scale=0.5, size=num_seeds) for name in ("first", "second")}
        losses["second"] += difference
        table = verdicts.compare(final_frame(losses), {"task": "first"}, seed=study)
        found += table["verdict"].item() in ("better", "worse")
    return found / num_studies


@pytest.mark.parametrize("num_seeds", [3, 8])
def test_identical_optimizers_are_told_apart_in_at_most_5_percent_of_200_studies(num_seeds: int) -> None:
    allowed = stats.binom.ppf(0.99, 200, 0.05) / 200
    assert simulate(num_seeds, 0.0, 200, seed=num_seeds) <= allowed


@pytest.mark.parametrize("num_seeds", [3, 8])
def test_a_difference_of_the_computed_size_is_found_in_80_percent_of_200_studies(num_seeds: int) -> None:
    difference = power.detectable_difference(math.sqrt(2) * 0.5, num_seeds)
    allowed = stats.binom.ppf(0.01, 200, 0.8) / 200
    assert simulate(num_seeds, difference, 200, seed=num_seeds) >= allowed


def test_many_optimizers_identical_to_the_baseline_rarely_yield_any_finding() -> None:
    rng = np.random.default_rng(7)
    false = 0
    for study in range(60):
        losses = {f"optimizer_{i}": 1 + rng.normal(size=5) for i in range(6)}
        table = verdicts.compare(final_frame(losses), {"task": "optimizer_0"}, seed=study)
        false += bool(table["verdict"].isin(["better", "worse"]).any())
    assert false <= stats.binom.ppf(0.99, 60, 0.05)


@pytest.mark.parametrize("noise", ["lognormal", "laplace"])
def test_skewed_and_heavy_noise_does_not_raise_false_findings(noise: str) -> None:
    rng = np.random.default_rng(11)
    draw = getattr(rng, noise)
    false = 0
    for study in range(300):
        result = intervals.paired_interval([draw(size=4) - draw(size=4)], seed=study, label="aa")
        false += not result["low"] <= 0 <= result["high"]
    assert false / 300 <= stats.binom.ppf(0.99, 300, 0.05) / 300
