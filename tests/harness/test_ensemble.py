"""A trial in a pack is the trial alone."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from bench.jobs.packing import cut_into_packs, group_by_structure
from bench.jobs.plan import Plan
from bench.runs.trial import Trial
from bench.training.interrupt import StopSignal
from bench.training.record import Record
from bench.training.train import train
from tests.configured import LAYOUTS, OURS, configured, one_of_each_kind_first

MakePlan = Callable[..., Plan]
Small = Callable[[str], list[str]]
SEEDS = ["sweep=seeds", "sweep.axes.seed=[0,1]"]
CASES: list[Any] = one_of_each_kind_first(OURS, "mlp")
CASES += [(name, task) for name in LAYOUTS for task in ("quadratic", "rosenbrock")]
CASES += [pytest.param(name, "gpt_nano", marks=pytest.mark.slow) for name in LAYOUTS]
MODEST = {  # at their default lr rounding grows: signs flip
    "deepmd_adamuon": ["optimizer.lr=0.001"],
    "prodigy": ["optimizer.lr=0.1"],
    "scion": ["optimizer.lr=1e-5", "optimizer.rest.lr=1e-5", "optimizer.rest.rest.lr=1e-5"],
}
TOLERANCES = {"deepmd_adamuon": 1e-2, "soap": 1e-11}  # 7e-13 was seen, see its docstring


def final_losses(plan: Plan, trials: list[Trial]) -> list[float]:
    """Final validation losses of trials trained together."""
    return [record.rows[-1]["val_loss"] for record in train_together(plan, trials)]


def train_together(plan: Plan, trials: list[Trial]) -> list[Record]:
    task = plan.tasks.get(trials[0].config.task, "cpu")
    records = train([trial.config for trial in trials], task, [], StopSignal())
    assert all(record.status != "failed" for record in records), records[0].message
    return records


@pytest.mark.parametrize(("optimizer", "task"), CASES)
def test_a_packed_trial_equals_the_same_trial_alone_in_float64(
    plan: MakePlan, small: Small, optimizer: str, task: str
) -> None:
    exact = (
        ["optimizer.fp32_matmul_prec=highest"] if "fp32_matmul_prec" in configured(optimizer).hyperparameters else []
    )
    overrides = [*small(task), *SEEDS, *exact, *MODEST.get(optimizer, []), "precision=float64", "clip_norm=1.0"]
    made = plan(f"optimizer={optimizer}", *overrides)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="There is a performance drop")
        packed = final_losses(made, made.trials)
    assert len(set(packed)) == len(packed), "seeds must differ"
    alone = final_losses(made, made.trials[1:])
    assert packed[1:] == pytest.approx(alone, rel=TOLERANCES.get(optimizer, 1e-12))


@pytest.mark.parametrize("optimizer", ["adamw", "madam", "adamuon"])
def test_a_packed_trial_equals_the_same_trial_alone_in_float32(plan: MakePlan, small: Small, optimizer: str) -> None:
    made = plan(f"optimizer={optimizer}", *small("mlp"), *SEEDS)
    alone = [final_losses(made, [trial])[0] for trial in made.trials]
    assert final_losses(made, made.trials) == pytest.approx(alone, rel=1e-2 if optimizer == "adamuon" else 1e-5)


def test_a_trial_is_bitwise_the_same_in_any_pack(plan: MakePlan, small: Small) -> None:
    made = plan("optimizer=adamw", *small("mlp"), "sweep=lr", "sweep.axes.optimizer.lr=[0.001,0.003,0.01,0.03,0.1]")
    whole = final_losses(made, made.trials)
    assert final_losses(made, made.trials[::-1])[::-1] == whole
    assert final_losses(made, made.trials[1:3]) == whole[1:3]


def test_a_trial_that_diverges_leaves_its_neighbours_bitwise_unchanged(plan: MakePlan, small: Small) -> None:
    wild = "sweep.axes.optimizer.lr=[0.01,1.0e30,0.001]"
    made = plan("optimizer=adamw", *small("mlp"), "task.eval_every=10", "sweep=lr", wild)
    records = train_together(made, made.trials)
    assert [record.status for record in records] == ["completed", "diverged", "completed"]
    assert len(records[1].rows) < len(records[0].rows)
    calm = train_together(made, [made.trials[0], made.trials[2]])
    assert [record.rows[-1]["val_loss"] for record in calm] == [records[i].rows[-1]["val_loss"] for i in (0, 2)]


def test_betas_and_eps_and_rest_differ_within_a_pack(plan: MakePlan, small: Small) -> None:
    axes = ["+sweep.axes.optimizer.rest.lr=[0.001,0.01]", "+sweep.axes.optimizer.rest.betas=[[0.8,0.9],[0.9,0.999]]"]
    made = plan("optimizer=adamuon", *small("mlp"), "sweep=none", *axes)
    assert len(group_by_structure(made.trials)) == 1
    losses = final_losses(made, made.trials)
    assert len(set(losses)) == 4


def test_trials_of_another_structure_are_not_packed_together(plan: MakePlan, small: Small) -> None:
    made = plan("optimizer=madam", *small("mlp"), "sweep=seeds", "+sweep.axes.optimizer.scale_log2=[32,64]")
    assert [len(group) for group in group_by_structure(made.trials)] == [5, 5]


def test_packs_are_as_even_as_possible(plan: MakePlan, small: Small) -> None:
    made = plan("optimizer=adamw", *small("mlp"), "sweep=seeds", "sweep.axes.seed=[range,0,10]")
    assert [len(pack.trials) for pack in cut_into_packs(made.trials, 4)] == [3, 3, 4]
