"""Factors on lr and weight decay by the names of parameters: whichever rule takes them, alone and in packs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import ConfigError
from bench.jobs.packing import group_by_structure
from bench.jobs.plan import Plan, make_plan
from bench.jobs.proofs import Proofs
from bench.training.routing import RoutedOptimizer
from tests.configured import one_of_each_kind_first
from tests.harness.test_checkpoint import STEPS, assert_same_training
from tests.harness.test_ensemble import final_losses, train_together

MakePlan = Callable[..., Plan]
Mapping = Callable[..., dict[str, Any]]
Small = Callable[[str], list[str]]
GROUPS = "+optimizer.groups=[{match: 'head.*', lr: 0.1, weight_decay: 0.5}, {match: '*.weight', lr: 3.0}]"
FACTORS = "+sweep.axes.optimizer.groups.0.lr=[0.1,0.5,2.0]"


def options_by_name(plan: Plan) -> dict[str, tuple[float, float]]:
    """The lr and the decay of every parameter, after half of the schedule's factor."""
    config = plan.trials[0].config
    task = plan.tasks.get(config.task, "cpu")
    model = task.build_model(torch.Generator().manual_seed(0))
    routed = RoutedOptimizer(config.optimizer, dict(model.named_parameters()), task.param_labels(model))
    routed.set_lr_factor(0.5)
    return {
        route.names[id(param)]: (group["lr"], group["weight_decay"])
        for route in routed.routes
        for group in route.optimizer.param_groups
        for param in group["params"]
    }


@pytest.mark.parametrize("optimizer", ["adamw", "torch.optim.AdamW"])
def test_the_first_pattern_that_matches_multiplies_and_the_schedule_multiplies_on_top(
    plan: MakePlan, small: Small, optimizer: str
) -> None:
    overrides = ["optimizer.lr=0.01", "optimizer.weight_decay=0.2", f"optimizer._target_={optimizer}"]
    overrides += ["~optimizer.correct_bias", "~optimizer.nesterov", "~optimizer.weight_decay_method"]
    found = options_by_name(plan(*small("mlp"), *(overrides if "." in optimizer else overrides[:2]), GROUPS))
    expected = {
        "hidden1.weight": (0.015, 0.2),
        "hidden1.bias": (0.005, 0.0),
        "hidden2.weight": (0.015, 0.2),
        "hidden2.bias": (0.005, 0.0),
        "head.weight": (0.0005, 0.1),
        "head.bias": (0.0005, 0.0),
    }
    assert {name: pytest.approx(values, rel=1e-12) for name, values in expected.items()} == found


def test_groups_reach_into_the_rest_and_leave_the_route_of_a_parameter_alone(plan: MakePlan, small: Small) -> None:
    overrides = ["optimizer=muon", "optimizer.lr=0.02", "optimizer.rest.lr=0.004", *small("mlp")]
    plain, found = options_by_name(plan(*overrides)), options_by_name(plan(*overrides, GROUPS))
    factors = {"hidden1.weight": 3.0, "hidden2.weight": 3.0, "head.weight": 0.1, "head.bias": 0.1}
    assert {name: lr for name, (lr, _) in found.items()} == pytest.approx(
        {name: lr * factors.get(name, 1.0) for name, (lr, _) in plain.items()}
    )


@pytest.mark.parametrize("optimizer", one_of_each_kind_first(["adamw", "muon", "soap", "prodigy", "sgd", "nadam"]))
def test_a_packed_trial_with_groups_equals_the_same_trial_alone(
    plan: MakePlan, small: Small, optimizer: str, tmp_path: Path
) -> None:
    own = {"prodigy": ["optimizer.lr=0.1"], "muon": ["optimizer.fp32_matmul_prec=highest"]}.get(optimizer, [])
    options = [f"optimizer={optimizer}", *own, GROUPS, FACTORS, "precision=float64", "diagnostics=true"]
    made = plan(*small("mlp"), *options)
    assert len(group_by_structure(made.trials)) == 1
    task = made.tasks.get(made.trials[0].config.task, "cpu")
    assert Proofs(tmp_path).reason_alone(task, made.trials) is None
    packed = train_together(made, made.trials)
    alone = [train_together(made, [trial])[0] for trial in made.trials]
    assert len({record.rows[-1]["val_loss"] for record in alone}) == 3
    for one, other in zip(packed, alone, strict=True):
        tolerance = 1e-9 if optimizer == "soap" else 1e-12
        assert one.rows[-1]["val_loss"] == pytest.approx(other.rows[-1]["val_loss"], rel=tolerance)
        for name in other.rows[-1]:
            if name.endswith("update_rms"):
                assert one.rows[-1][name] == pytest.approx(other.rows[-1][name], rel=1e-6), name


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("size", [1, 3])
def test_a_training_with_groups_goes_on_from_its_checkpoint(
    plan: MakePlan, small: Small, tmp_path: Path, optimizer: str, size: int
) -> None:
    made = plan(f"optimizer={optimizer}", *small("mlp"), f"task.steps={STEPS}", "task.eval_every=5", GROUPS, FACTORS)
    assert_same_training(made, made.trials[:size], tmp_path)


def test_whole_lists_of_groups_are_an_axis_and_part_of_a_runs_identity(plan: MakePlan, small: Small) -> None:
    axis = "+sweep.axes.optimizer.groups=[[{match: 'head.*', lr: 0.1}], [{match: '*.bias', lr: 0.1}], []]"
    made = plan(*small("mlp"), axis)
    assert len({trial.run_id for trial in made.trials}) == 3
    losses = [final_losses(made, [trial])[0] for trial in made.trials]
    assert len(set(losses)) == 3
    assert final_losses(plan(*small("mlp")), plan(*small("mlp")).trials)[0] == losses[2]


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (
            "[{match: '*.head.*', lr: 0.1}]",
            r"groups\.0\.match=\*\.head\.\*: matches no parameter; the nearest are",
        ),
        ("[{match: '*', lr: 1}, {match: 'head.*', lr: 2}]", r"groups\.1\.match=head\.\*: matches only what patterns"),
        ("[{match: '*', lrs: 0.1}]", r"groups\.0\.lrs=0\.1: no such key, did you mean 'lr'"),
        ("[{match: '*', lr: -1}]", r"groups\.0\.lr=-1: expected a factor"),
        ("[{match: '*', weight_decay: nan}]", r"groups\.weight_decay=nan: expected a finite number"),
        ("[{match: '*'}]", r"groups\.0=\{'match': '\*'\}: expected lr or weight_decay"),
        ("[{match: '', lr: 1}]", r"groups\.0\.match=: expected a pattern"),
        ("{match: '*', lr: 1}", "groups=.*: expected a list"),
    ],
)
def test_a_mistake_in_groups_is_one_line(mapping: Mapping, small: Small, groups: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^optimizer.{words}[^\n]*$"):
        make_plan(mapping(*small("mlp"), f"+optimizer.groups={groups}"))


def test_a_factor_on_what_an_optimizer_lacks_and_groups_of_the_rest_are_refused(mapping: Mapping, small: Small) -> None:
    rprop = ["optimizer=custom", "optimizer._target_=torch.optim.Rprop"]
    with pytest.raises(ConfigError, match=r"groups\.0\.weight_decay=0\.5: Rprop has no weight_decay to multiply"):
        make_plan(mapping(*small("mlp"), *rprop, GROUPS))
    with pytest.raises(ConfigError, match="rest and base take no groups"):
        make_plan(mapping(*small("mlp"), "optimizer=muon", "+optimizer.rest.groups=[{match: '*', lr: 2}]"))
