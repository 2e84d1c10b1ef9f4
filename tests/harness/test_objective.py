"""A search that goes by averaged weights chooses by their validation loss, and is compared by their test loss."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from bench.analysis.comparability import prepare
from bench.analysis.load import load
from bench.analysis.selection import choose_cells
from bench.cli.compose import compose, resolve
from bench.errors import ConfigError
from bench.jobs.job import train_plan
from bench.jobs.plan import Plan, make_plan
from bench.judge.searches import pair_searches, run_searches
from bench.runs.objective import final_loss, objective_of, rank_cells
from bench.runs.schema import Run
from tests.harness.conftest import SMALL

MakePlan = Callable[..., Plan]
Small = Callable[[str], list[str]]
GRID = ["sweep=lr", "sweep.axes.optimizer.lr=[0.01,0.014]", "sweep.fresh_seeds=[100,101]", "schedule=constant"]
EMA = ["average=ema", "average.decays=[0.9]"]
OBJECTIVES = {"val_loss": "", "ema_val_loss": "ema_"}


def figures(runs: list[Run], stage: str, name: str) -> dict[float, float]:
    """The mean over seeds of a figure, by learning rate."""
    found: dict[float, list[float]] = {}
    for run in runs:
        if run.stage == stage:
            found.setdefault(run.cell["optimizer.lr"], []).append(run.summary.figures[name] or math.nan)
    return {lr: math.fsum(values) / len(values) for lr, values in found.items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Plan, list[Run]]]:
    """The plan and all runs of one search by each objective, each in a folder of its own."""
    found = {}
    for objective in (*OBJECTIVES, "best"):
        folder = f"results_dir={tmp_path_factory.mktemp(objective)}"
        own = [*SMALL["mlp"], *GRID, *EMA, f"sweep.objective={objective}", "tracker=none", "device=cpu", folder]
        plan = make_plan(resolve(compose(own)))
        found[objective] = plan, train_plan(plan, tell=False)
    return found


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_objective_decides_which_cell_is_shown_on_fresh_seeds(trained: Any, objective: str) -> None:
    plan, runs = trained[objective]
    shown = figures(runs, "fresh", f"final_{objective}")
    tuned = figures(runs, "tuning", f"final_{objective}")
    assert list(shown) == [min(tuned, key=tuned.__getitem__)]
    assert objective_of(runs, objective) == pytest.approx(*shown.values())
    assert plan.sweep.objective == objective


def test_raw_and_averaged_weights_choose_different_cells(trained: Any) -> None:
    chosen = [set(figures(trained[objective][1], "fresh", "final_val_loss")) for objective in OBJECTIVES]
    assert chosen[0].isdisjoint(chosen[1])


@pytest.mark.parametrize(("objective", "weights"), OBJECTIVES.items())
def test_judge_and_report_compare_the_test_loss_of_the_chosen_weights(
    trained: Any, objective: str, weights: str
) -> None:
    plan, runs = trained[objective]
    expected = {run.seed: run.summary.figures[f"final_{weights}test_loss"] for run in runs if run.stage == "fresh"}
    searched = run_searches(plan)
    assert dict(zip(searched["seed"], searched["score"], strict=True)) == pytest.approx(
        {seed: math.log(loss) for seed, loss in expected.items()}
    )
    _, used, _ = prepare(load([plan.session.results_dir]).runs)
    fresh = used[used["stage"] == "fresh"]
    assert dict(zip(fresh["seed"], fresh["judged_loss"], strict=True)) == expected
    _, members = rank_cells([run for run in runs if run.stage == "tuning"], objective)[0]
    assert f'"optimizer.lr": {members[0].cell["optimizer.lr"]}' in choose_cells(used)["cell"].item()


def test_the_averaged_arm_is_paired_with_the_raw_one_by_their_own_test_losses(trained: Any) -> None:
    raw, averaged = (run_searches(trained[objective][0]) for objective in OBJECTIVES)
    (pair,) = pair_searches(averaged, raw, 1)
    assert pair.difference == pytest.approx(averaged["score"].mean() - raw["score"].mean())
    assert not pair.failed
    assert not pair.baseline_failed


def test_the_best_of_both_is_chosen_by_validation_for_each_training(trained: Any) -> None:
    for run in trained["best"][1]:
        by_weights = {run.summary.figures[f"final_{own}val_loss"]: own for own in OBJECTIVES.values()}
        own = by_weights[min(by_weights)]
        assert final_loss(run, "best") == min(by_weights)
        assert final_loss(run, "best", "test") == run.summary.figures[f"final_{own}test_loss"]


def test_objectives_change_no_trial(trained: Any) -> None:
    ids = [{trial.run_id for trial in plan.trials} for plan, _ in trained.values()]
    assert ids[0] == ids[1] == ids[2]


@pytest.mark.parametrize(
    ("overrides", "known"),
    [
        (["sweep.objective=ema_val_loss"], "expected best, or what is evaluated: val_loss"),
        ([*EMA, "sweep.objective=ema_0.9_val_loss"], "what is evaluated: val_loss, ema_val_loss"),
        (["average=lawa", "average.windows=[2,3]", "sweep.objective=test_loss"], "lawa_2_val_loss, lawa_3_val_loss"),
    ],
)
def test_an_objective_that_is_not_evaluated_is_refused(
    plan: MakePlan, small: Small, overrides: list[str], known: str
) -> None:
    with pytest.raises(ConfigError) as error:
        plan(*small("mlp"), *overrides)
    assert str(error.value).startswith("sweep.objective=")
    assert known in str(error.value)
    assert "\n" not in str(error.value)
