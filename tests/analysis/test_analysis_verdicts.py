"""Words follow from numbers: what is the unit, what may be claimed, and how often a claim is false."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.analysis import verdicts
from bench.analysis.frames import each
from bench.analysis.pairs import pair_arms
from bench.analysis.scores import deviations
from bench.report.sentences import details, headline
from tests.analysis.frames_for_tests import final_frame

BASE = [1.0, 1.1, 0.9, 1.05, 0.95]


def compare(losses: dict[str, Sequence[float]], **options: float) -> pd.Series:
    return verdicts.compare(final_frame(losses, **options), {"task": "base"}, []).iloc[0]


def test_a_clear_difference_is_called_by_its_side() -> None:
    lower = compare({"base": BASE, "new": [0.5 * b * (1 + 0.01 * i) for i, b in enumerate(BASE)]})
    assert lower["verdict"] == "better"
    assert headline(lower) == "task: new at its setting ends at a lower test loss than base"
    assert details(lower).startswith("loss × 0.51 (−49 %), 95 % interval 0.50 to 0.52, 5 paired seeds")
    assert compare({"base": BASE, "new": [b * 2 + 0.1 * i for i, b in enumerate(BASE)]})["verdict"] == "worse"


def test_within_the_margin_is_practically_the_same_however_sure_the_difference() -> None:
    new = [b * 0.999 * (1 + 1e-6 * i) for i, b in enumerate(BASE)]
    assert compare({"base": BASE, "new": new}, relevant=0.01)["verdict"] == "practically the same"
    assert compare({"base": BASE, "new": new}, relevant=1e-4)["verdict"] == "better"
    assert compare({"base": BASE, "new": new}, relevant=math.nan)["verdict"] == "better"


def test_an_interval_that_leaves_the_margin_and_holds_one_is_unresolved_and_tells_what_the_margin_takes() -> None:
    row = compare({"base": [1.0, 2.0, 3.0, 4.0], "new": [1.1, 1.9, 3.2, 3.9]}, relevant=0.02)
    assert row["verdict"] == "unresolved"
    assert "the margin takes about" in details(row)
    assert "observed" not in details(row)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_seeds_decide_nothing_however_large_the_difference(count: int) -> None:
    row = compare({"base": [1.0] * count, "new": [9.0] * count})
    assert row["verdict"] == "too few"
    assert headline(row) == "task: new at its setting and base: too few seeds"
    assert f"{count} paired seed{'s' * (count > 1)}, and fewer than 3 carry no interval" in details(row)


def test_seeds_that_are_not_shared_are_not_paired() -> None:
    final = final_frame({"base": [1.0, 1.0, 1.0], "new": [1.0, 1.0, 1.0]})
    final.loc[final["optimizer"] == "new", "seed"] += 10
    row = verdicts.compare(final, {"task": "base"}, []).iloc[0]
    assert row["num_units"] == 0
    assert "no seeds in common" in details(row)


def test_losses_are_compared_given_success_and_failures_apart() -> None:
    row = compare({"base": BASE, "new": [0.5, 0.55, math.inf, 0.53, 0.47]})
    assert row["verdict"] == "better"
    assert (row["num_units"], row["failed"], row["failed_of"]) == (4, 1, 5)
    assert row["failure_verdict"] == ""


def test_failing_more_often_is_a_verdict() -> None:
    row = compare({"base": [1.0] * 6, "new": [math.inf] * 6})
    assert row["failure_verdict"] == "fails more often"
    assert row["failure_p_value"] == pytest.approx(2 / 924)
    mirrored = compare({"base": [math.inf] * 6, "new": [1.0] * 6})
    assert mirrored["failure_verdict"] == "fails less often"


def test_two_that_always_failed_are_not_called_equal() -> None:
    assert compare({"base": [math.inf] * 3, "new": [math.inf] * 3})["verdict"] == "always failed"


def searches(losses: dict[str, Sequence[Sequence[float]]]) -> pd.DataFrame:
    """Final runs of several searches: optimizer -> losses by search and fresh seed."""
    parts = [
        final_frame({name: values}).assign(replicate=number, seed=lambda f, n=number: f["seed"] + 1000 * n)
        for name, per_search in losses.items()
        for number, values in enumerate(per_search)
    ]
    return pd.concat(parts, ignore_index=True)


def test_searches_are_the_unit_where_there_are_several() -> None:
    final = searches({"base": [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]], "new": [[2.0, 4.0], [3.0, 6.0], [2.5, 5.0]]})
    row = next(each(verdicts.compare(final, {"task": "base"}, [])))
    assert (row.unit, row.num_units, row.num_runs) == ("search", 3, 6)
    assert row.difference == pytest.approx(np.log([2, 3, 2.5]).mean())
    expected = stats.t.interval(0.95, 2, row.difference, stats.sem(np.log([2, 3, 2.5])))
    assert (row.low, row.high) == pytest.approx(expected)
    assert headline(row) == "task: new ends at a higher test loss than base"
    assert "3 paired searches" in details(row)


def test_one_search_makes_a_claim_about_settings_only() -> None:
    row = compare({"base": BASE, "new": [b / 2 for b in BASE]})
    assert row["unit"] == "seed"
    assert "at its setting" in headline(row)


def test_a_search_whose_cell_fails_on_one_fresh_seed_has_failed() -> None:
    final = searches({"base": [[1.0, 1.0]] * 3, "new": [[1.0, math.inf], [1.0, 1.0], [math.inf, math.inf]]})
    arms = pair_arms(final[final["optimizer"] == "new"], final[final["optimizer"] == "base"], "score")
    assert (arms.failed, arms.num_units, len(arms.differences), arms.num_runs) == (2, 3, 2, 3)


def test_deviations_between_searches_and_seeds_by_hand() -> None:
    final = searches({"a": [[1.0, 3.0], [11.0, 13.0]]}).assign(score=lambda f: f["judged_loss"])
    between, within = deviations(final)
    # Means 2 and 12 vary by 50, of which their two seeds each explain 2 / 2.
    assert within == pytest.approx(math.sqrt(2))
    assert between == pytest.approx(math.sqrt(50 - 1))
    assert math.isnan(deviations(final[final["replicate"] == 0])[0])


def test_every_claim_of_the_page_pays_for_the_correction() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(10, 1, 5)
    losses = {"base": base, "new": base + np.array([0.5, 0.7, 1.0, 1.4, 0.2])}
    losses |= {f"other_{i}": base + rng.normal(size=5) for i in range(15)}
    table = verdicts.compare(final_frame(losses), {"task": "base"}, [])
    row = next(row for row in each(table) if row.optimizer == "new")
    assert row.num_claims == 16
    assert row.low > 0
    assert row.verdict == "unresolved"
    assert "Corrected for 16 claims" in details(row)


def five_tasks(factors: Sequence[float], scale: Sequence[float] = (1, 1, 1, 1, 1)) -> pd.DataFrame:
    frames = []
    for index, (factor, size) in enumerate(zip(factors, scale, strict=True)):
        base = [size * b for b in BASE]
        new = [factor * b * (1 + 0.002 * i) for i, b in enumerate(base)]
        frames.append(final_frame({"base": base, "new": new}, setting=f"t{index}"))
    return pd.concat(frames, ignore_index=True)


def overall_row(final: pd.DataFrame) -> pd.DataFrame:
    names = sorted(final["setting"].unique())
    table = verdicts.compare(final, dict.fromkeys(names, "base"), names)
    return table[table["setting"] == verdicts.OVERALL]


def test_all_tasks_are_judged_from_five_on_by_ratios_however_far_losses_lie_apart() -> None:
    row = overall_row(five_tasks([0.5] * 5, scale=[1e-6, 1, 1e3, 1e-3, 1e6])).iloc[0]
    assert row["verdict"] == "better"
    assert math.exp(row["difference"]) == pytest.approx(0.5 * math.exp(np.log(1 + 0.002 * np.arange(5)).mean()))
    four = five_tasks([0.5] * 5).query("setting != 't4'")
    assert overall_row(four).empty


def test_all_tasks_get_no_word_where_tasks_disagree() -> None:
    assert overall_row(five_tasks([0.1, 0.1, 0.1, 0.1, 2.0])).iloc[0]["verdict"] == "tasks disagree"


def test_losses_below_zero_are_compared_by_differences_without_a_margin() -> None:
    final = final_frame({"base": BASE, "new": BASE}, relevant=0.1)
    final["judged_loss"] = final["score"] = final["judged_loss"] - 2 * (final["optimizer"] == "new")
    row = verdicts.compare(final.assign(scale="linear", relevant=math.nan), {"task": "base"}, []).iloc[0]
    assert row["difference"] == pytest.approx(-2.0)
    assert details(row).startswith("difference −2")


@pytest.mark.slow
@pytest.mark.parametrize("failure_rate", [0.0, 0.1])
def test_optimizers_identical_to_the_baseline_rarely_yield_any_finding(failure_rate: float) -> None:
    rng = np.random.default_rng(7)
    false = 0
    for _ in range(60):
        losses = np.exp(rng.standard_normal((5, 5)))
        losses[rng.random(losses.shape) < failure_rate] = math.inf
        table = verdicts.compare(final_frame({f"o{i}": row for i, row in enumerate(losses)}), {"task": "o0"}, [])
        false += bool((table["verdict"].isin(["better", "worse"]) | (table["failure_verdict"] != "")).any())
    assert false <= stats.binom.ppf(0.99, 60, 0.05)


def test_unknown_baseline_is_refused_with_the_pool() -> None:
    with pytest.raises(ValueError, match=r"no baseline 'sgd' .*base, new"):
        verdicts.choose_baselines(final_frame({"base": [1.0], "new": [1.0]}), "sgd")


@pytest.mark.parametrize(
    ("wanted", "labels", "chosen"),
    [(None, ("theirs", "mine"), "adamw (theirs)"), (None, ("mine", "theirs"), "adamw (mine)"),
     ("adamw", ("mine", "theirs"), "adamw (mine)"), ("adamw (theirs)", ("mine", "theirs"), "adamw (theirs)"),
     ("sgd", ("mine", "theirs"), "sgd (theirs)"), ("adamuon", ("mine", "theirs"), "adamuon (mine)")],
)  # fmt: skip
def test_of_labelled_folders_the_baseline_is_the_first_labels_that_has_it(
    wanted: str | None, labels: tuple[str, ...], chosen: str
) -> None:
    names = ("adamuon (mine)", "adamw (mine)", "adamw (theirs)", "sgd (theirs)")
    final = final_frame({name: [1.0] for name in names})
    assert verdicts.choose_baselines(final, wanted, labels) == {"task": chosen}
