"""Targets, speedups, curves: by time and not by index, inf kept, factors that multiply."""

import math

import numpy as np
import pandas as pd
import pytest

from bench.analysis import convergence, speedup, targets
from bench.runs.crossings import first_crossings
from tests.analysis.frames_for_tests import curve_frame, final_frame


def test_first_crossing_goes_by_time_and_not_by_index() -> None:
    values, times = np.array([0.1, 5.0, 0.2, math.nan]), np.array([30.0, 0.0, 10.0, 5.0])
    assert first_crossings(values, times, np.array([0.2, 0.1, 0.05]), "min").tolist() == [10.0, 30.0, math.inf]


def test_first_crossing_of_an_accuracy_is_at_or_above() -> None:
    values, times = np.array([0.1, 0.9, 0.8]), np.array([0.0, 1.0, 2.0])
    assert first_crossings(values, times, np.array([0.85, 0.9, 0.95]), "max").tolist() == [1.0, 1.0, math.inf]


def one_target(value: float) -> pd.DataFrame:
    return pd.DataFrame({"setting": ["task"], "metric": ["val_loss"], "value": [value], "mode": ["min"]})


def costs(**seconds: float) -> pd.DataFrame:
    rows = [("task", name, cost, False, 3) for name, cost in seconds.items()]
    return pd.DataFrame(rows, columns=["setting", "optimizer", "step_seconds", "derived", "num_runs"])


def test_missed_targets_stay_in_the_median() -> None:
    final = final_frame({"a": [1.0, 1.0, 1.0]})
    metrics = pd.concat([curve_frame(0, [5, 1]), curve_frame(1, [5, 4]), curve_frame(2, [5, 4])])
    times = targets.times_to_target(final, metrics, one_target(2.0), costs(a=1.0))
    assert times["steps_to_target"].tolist() == [10.0, math.inf, math.inf]
    assert times["steps_to_target"].median() == math.inf
    curve = targets.target_curves(final, metrics, one_target(2.0))
    assert curve["steps"].iloc[0] == 0.0
    assert curve["steps"].iloc[-1] == math.inf
    assert curve["num_reached"].iloc[-1] == 1


def test_seconds_of_a_pack_are_steps_times_the_cost_measured_alone() -> None:
    final = final_frame({"a": [1.0]}).assign(shared_timing=True)
    metrics = curve_frame(0, [5, 3, 1], cost=99.0)
    times = targets.times_to_target(final, metrics, one_target(1.0), costs(a=0.5))
    assert times["seconds_to_target"].item() == 20 * 0.5
    assert targets.times_to_target(final, metrics, one_target(1.0), costs(a=math.nan))["seconds_to_target"].isna().all()


def test_ranking_follows_a_moved_target() -> None:
    # "fast" is first to 2.0 and never gets below 1.9; "slow" goes on to 1.
    final = final_frame({"fast": [1.9], "slow": [1.0]})
    metrics = pd.concat([curve_frame(0, [5, 1.95, 1.9, 1.9]), curve_frame(1, [5, 3, 1.9, 1.0])])
    ranks = targets.rank_changes(final, metrics, one_target(2.0)).set_index(["shift", "optimizer"])["rank"]
    assert ranks[0.0, "fast"] == 1.0
    assert ranks[-0.2, "slow"] == 1.0
    tau = targets.rank_changes(final, metrics, one_target(2.0)).set_index("shift")["kendall_tau"]
    assert tau[0.2].tolist() == [1.0, 1.0]
    assert tau[-0.2].tolist() == [-1.0, -1.0]


def test_an_accuracy_target_moves_by_a_share_of_its_error() -> None:
    assert targets.shift_target(0.9, "val_accuracy", "max", 0.2) == pytest.approx(0.88)
    assert targets.shift_target(0.5, "val_loss", "min", -0.2) == pytest.approx(0.4)


@pytest.mark.parametrize("text", ["", "val_loss", "val_loss<2", "val_loss<=", "val_loss<=nan", "mlp:val_loss=2"])
def test_malformed_targets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not of the form"):
        targets.parse_target(text)


def test_target_text_is_read() -> None:
    expected = {"task": "mlp", "metric": "val_accuracy", "value": 0.95, "mode": "max"}
    assert targets.parse_target("mlp:val_accuracy>=0.95") == expected


def times_frame(**steps: list[float]) -> pd.DataFrame:
    rows = [("task", name, seed, value) for name, values in steps.items() for seed, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["setting", "optimizer", "seed", "steps_to_target"])


def test_speedup_is_fewer_steps_times_cheaper_step() -> None:
    times = times_frame(base=[100.0, 120.0, 110.0], new=[50.0, 60.0, 55.0])
    row = speedup.speedups(times, costs(base=1.0, new=1.6), {"task": "base"}).iloc[0]
    assert row["fewer_steps"] == 2.0
    assert row["cheaper_step"] == 1 / 1.6
    assert row["speedup"] == pytest.approx(2.0 / 1.6)
    assert row["low"] <= 2.0 <= row["high"]


def test_speedup_over_who_never_arrives_is_infinite_and_among_two_such_unknown() -> None:
    never = [math.inf] * 3
    table = speedup.speedups(
        times_frame(base=never, new=[1.0] * 3, also=never), costs(base=1, new=1, also=1), {"task": "base"}
    )
    fewer = table.set_index("optimizer")["fewer_steps"]
    assert fewer["new"] == math.inf
    assert math.isnan(fewer["also"])


def test_a_run_that_ends_early_stays_in_the_median_as_infinite() -> None:
    final = final_frame({"a": [1.0, math.inf, math.inf]}).assign(samples_per_step=4.0, context=math.nan)
    metrics = pd.concat([curve_frame(0, [5, 2, 1]), curve_frame(1, [5, 9]), curve_frame(2, [7, 9])])
    curve = convergence.convergence(final, metrics, costs(a=1.0))
    assert curve["median"].tolist() == [5.0, 9.0, math.inf]
    assert curve["samples"].tolist() == [0.0, 40.0, 80.0]
