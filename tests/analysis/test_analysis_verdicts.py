"""Sentences follow from numbers, and say "not distinguishable" wherever the numbers do."""

import math

import numpy as np
import pandas as pd
import pytest

from bench.analysis import verdicts
from bench.report.sentences import details, headline
from tests.analysis.frames_for_tests import final_frame


def compare(losses: dict[str, list[float]]) -> pd.Series:
    return verdicts.compare(final_frame(losses), {"task": "base"}).iloc[0]


def test_a_clear_difference_is_called_by_its_side() -> None:
    base = [1.0, 1.1, 0.9, 1.05, 0.95]
    lower = compare({"base": base, "new": [b - 0.5 + 0.01 * i for i, b in enumerate(base)]})
    assert lower["verdict"] == "better"
    assert headline(lower) == "task: new has a lower final validation loss than base"
    assert "difference −0.48 (−48 %), 95 % interval −0.5 to −0.46, 5 paired seeds." in details(lower)
    assert compare({"base": base, "new": [b + 0.5 for b in base]})["verdict"] == "worse"


def test_overlap_with_zero_reads_not_distinguishable_and_tells_what_would_be_needed() -> None:
    row = compare({"base": [1.0, 2.0, 3.0, 4.0], "new": [1.1, 1.9, 3.2, 3.9]})
    assert row["verdict"] == "not distinguishable"
    assert "not distinguishable" in headline(row)
    assert "in 80 % of cases; the observed one would need" in details(row)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_seeds_decide_nothing_however_large_the_difference(count: int) -> None:
    row = compare({"base": [1.0] * count, "new": [9.0] * count})
    assert row["verdict"] == "too few seeds"
    assert "not distinguishable" in headline(row)


def test_seeds_that_are_not_shared_are_not_paired() -> None:
    final = final_frame({"base": [1.0, 1.0, 1.0], "new": [1.0, 1.0, 1.0]})
    final.loc[final["optimizer"] == "new", "seed"] += 10
    row = verdicts.compare(final, {"task": "base"}).iloc[0]
    assert row["num_pairs"] == 0
    assert "share no seed" in details(row)


def test_diverged_runs_count_as_untrained_and_are_named() -> None:
    row = compare({"base": [1.0, 1.0, 1.0], "new": [1.0, math.inf, 1.0]})
    assert row["difference"] == pytest.approx(3.0)
    assert "new diverged on 1; counted as untrained" in details(row)


def test_two_that_always_diverged_are_not_called_equal() -> None:
    assert compare({"base": [math.inf] * 3, "new": [math.inf] * 3})["verdict"] == "both diverged"


def test_identical_losses_are_called_identical() -> None:
    assert compare({"base": [1.0, 2.0, 3.0], "new": [1.0, 2.0, 3.0]})["verdict"] == "identical"


def test_a_difference_that_holm_takes_away_is_not_distinguishable() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(10, 1, 5)
    losses = {"base": base, "new": base + np.array([0.5, 0.7, 1.0, 1.4, 0.2])}
    losses |= {f"other_{i}": base + rng.normal(size=5) for i in range(15)}
    table = verdicts.compare(final_frame(losses), {"task": "base"}).set_index("optimizer")
    assert table.loc["new", "low"] > 0
    assert table.loc["new", "verdict"] == "not distinguishable"
    assert "Corrected for 16 comparisons" in details(table.reset_index().query("optimizer == 'new'").iloc[0])


def test_overall_comparison_weighs_every_task_alike() -> None:
    frames = [
        final_frame({"base": [2.0, 2.2, 2.1], "new": [1.0, 1.2, 1.1]}, setting="x", initial=3.1),
        final_frame({"base": [200.0, 220.0, 210.0], "new": [100.0, 120.0, 110.0]}, setting="y", initial=310.0),
    ]
    row = verdicts.compare_overall(pd.concat(frames, ignore_index=True), ["x", "y"], "base").iloc[0]
    assert row["setting"] == "all tasks"
    assert row["difference"] == pytest.approx(-0.5)
    assert row["verdict"] == "better"


def test_unknown_baseline_is_refused_with_the_pool() -> None:
    with pytest.raises(ValueError, match=r"no baseline 'sgd' .*base, new"):
        verdicts.choose_baselines(final_frame({"base": [1.0], "new": [1.0]}), "sgd")
