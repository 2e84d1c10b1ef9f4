"""Targets, speedups, curves: by time and not by index, inf kept, factors that multiply."""

import math

import numpy as np
import pandas as pd
import pytest

from bench.analysis import convergence, speedup, step_times, targets
from bench.report.sentences import speed_sentences
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


def test_seconds_are_steps_times_the_measured_cost_and_nobodys_own_clock() -> None:
    final, metrics = final_frame({"a": [1.0]}), curve_frame(0, [5, 3, 1], cost=99.0)
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
    """Crossings that are known exactly: evaluated at every step."""
    rows = [
        ("task", name, 0, seed, value, value) for name, values in steps.items() for seed, value in enumerate(values)
    ]
    names = ["setting", "optimizer", "replicate", "seed", "steps_to_target", "steps_before"]
    return pd.DataFrame(rows, columns=names)


def rounds_frame(**seconds: list[float]) -> pd.DataFrame:
    rows = [("task", name, "one", number, value) for name, all_rounds in seconds.items()
            for number, value in enumerate(all_rounds)]  # fmt: skip
    return pd.DataFrame(rows, columns=["setting", "optimizer", "session", "round", "step_seconds"])


TIMES = times_frame(base=[100.0, 120.0, 110.0], new=[50.0, 60.0, 55.0])
NO_ROUNDS = rounds_frame()


def test_seconds_ratio_is_steps_ratio_times_cost_ratio_with_the_interval_of_the_product() -> None:
    rounds = rounds_frame(base=[1.0, 2.0, 1.5], new=[1.6, 3.3, 2.4])
    row = speedup.speedups(TIMES, rounds, {"task": "base"}, {}).iloc[0]
    cost = np.log([1.6, 1.65, 1.6])
    assert row["steps_ratio"] == pytest.approx(0.5)
    assert row["cost_ratio"] == pytest.approx(math.exp(cost.mean()))
    assert row["seconds_ratio"] == pytest.approx(0.5 * math.exp(cost.mean()))
    # The steps' ratio is the same on every seed, so all uncertainty is that of the cost.
    assert row["seconds_high"] / row["seconds_ratio"] == pytest.approx(row["cost_high"] / row["cost_ratio"])


def test_the_interval_of_steps_counts_in_where_between_evaluations_a_crossing_may_lie() -> None:
    exact = speedup.speedups(TIMES, NO_ROUNDS, {"task": "base"}, {}).iloc[0]
    spaced = TIMES.assign(steps_before=TIMES["steps_to_target"] - 10)
    row = speedup.speedups(spaced, NO_ROUNDS, {"task": "base"}, {}).iloc[0]
    assert (exact["steps_low"], exact["steps_high"]) == pytest.approx((0.5, 0.5))  # the same ratio on every seed
    assert row["steps_ratio"] == pytest.approx(0.5)
    # At the least, new crossed right after the evaluation before, at the most base did: and noise is added to that.
    assert row["steps_low"] <= np.exp(np.mean(np.log([40 / 100, 50 / 120, 45 / 110])))
    assert row["steps_high"] >= np.exp(np.mean(np.log([50 / 90, 60 / 110, 55 / 100])))


def test_the_mean_over_runs_crosses_at_another_step_than_its_runs() -> None:
    final = final_frame({"base": [1.0, 1.0], "new": [1.0, math.inf]})
    metrics = pd.concat([curve_frame(0, [9, 1, 1, 1]), curve_frame(1, [9, 8, 3, 2]), curve_frame(2, [9, 1, 1, 1]),
                         curve_frame(3, [9, 1])])  # fmt: skip
    found = targets.common_crossings(final, metrics, one_target(2.0))
    assert found == {("task", "base"): 20.0, ("task", "new"): 10.0}
    assert targets.common_crossings(final, metrics, one_target(0.5))["task", "new"] == math.inf
    times = targets.times_to_target(final, metrics, one_target(2.0), costs(base=1.0, new=1.0))
    assert times["steps_before"].tolist() == [0.0, 20.0, 0.0, 0.0]
    ((_, text),) = speed_sentences(speedup.speedups(times, NO_ROUNDS, {"task": "base"}, found), one_target(2.0))
    assert "the mean over its runs arrives at step 10, base's at step 20" in text
    never = {("task", "base"): 20.0, ("task", "new"): math.inf}
    ((_, text),) = speed_sentences(speedup.speedups(times, NO_ROUNDS, {"task": "base"}, never), one_target(2.0))
    assert "the mean over its runs never arrives, base's at step 20" in text


def test_without_timed_rounds_seconds_are_not_known() -> None:
    row = speedup.speedups(TIMES, NO_ROUNDS, {"task": "base"}, {}).iloc[0]
    assert row[["cost_ratio", "seconds_ratio", "seconds_low"]].isna().all()
    ((_, text),) = speed_sentences(speedup.speedups(TIMES, NO_ROUNDS, {"task": "base"}, {}), one_target(1.0))
    assert "seconds: not measured" in text


def test_who_misses_the_target_is_counted_and_takes_the_interval_away() -> None:
    times = times_frame(base=[100.0, 120.0, 110.0, 100.0], new=[50.0, 60.0, 55.0, math.inf])
    row = speedup.speedups(times, NO_ROUNDS, {"task": "base"}, {}).iloc[0]
    assert (row["missed"], row["missed_of"], row["num_units"]) == (1, 4, 3)
    assert row["steps_ratio"] == pytest.approx(0.5)
    assert math.isnan(row["steps_low"])


def test_who_never_arrives_has_no_ratio() -> None:
    never = [math.inf] * 3
    table = speedup.speedups(times_frame(base=[1.0] * 3, new=never), NO_ROUNDS, {"task": "base"}, {})
    assert table["steps_ratio"].isna().all()
    ((text, _),) = speed_sentences(table, one_target(1.0))
    assert text == "task: new does not reach the target, base does"


def test_rounds_speak_for_the_settings_that_agree_in_what_decides_a_step() -> None:
    used = final_frame({"a": [1.0]}).assign(batch_size=32.0, precision="float32", device="cpu")
    facts = {"task": "task", "precision": "float32", "device": "cpu", "optimizer": "a", "session": "s", "round": 0}
    rounds = pd.DataFrame([facts | {"batch_size": size, "step_seconds": size} for size in (32, 64)])
    assert step_times.rounds_of(rounds, used)["step_seconds"].tolist() == [32]
    assert step_times.step_costs(used, step_times.rounds_of(rounds, used))["step_seconds"].item() == pytest.approx(32)


def test_a_run_that_ends_early_stays_in_the_median_as_infinite() -> None:
    final = final_frame({"a": [1.0, math.inf, math.inf]}).assign(samples_per_step=4.0, context=math.nan)
    metrics = pd.concat([curve_frame(0, [5, 2, 1]), curve_frame(1, [5, 9]), curve_frame(2, [7, 9])])
    curve = convergence.convergence(final, metrics, costs(a=1.0))
    assert curve["median"].tolist() == [5.0, 9.0, math.inf]
    assert curve["samples"].tolist() == [0.0, 40.0, 80.0]
