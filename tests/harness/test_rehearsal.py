"""What an optimizer or a task refuses on the task's own model is one line, before anything is trained or stored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import ConfigError
from bench.jobs.plan import Plan, make_plan
from bench.training.rehearsal import rehearse
from bench.training.routing import RoutedOptimizer

MakePlan = Callable[..., Plan]
Mapping = Callable[..., dict[str, Any]]
Small = Callable[[str], list[str]]


def optimizer_of(target: str, **options: Any) -> dict[str, Any]:
    return {"name": "mine", "_target_": target, **options}


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (optimizer_of("torch.optim.Muon", lr=0.01), r"set optimizer\.labels=\[matrix\] and optimizer\.rest"),
        (optimizer_of("torch.optim.LBFGS", lr=0.1), r"LBFGS steps through a closure: set optimizer\.needs_closure=tr"),
        (
            optimizer_of("torch.optim.SparseAdam", lr=0.1),
            "mine: cannot take a step on task=mlp: RuntimeError",
        ),
        (optimizer_of("torch.optim.Adam", lr=0.1, sparse_step=1), "no such option"),
        (
            optimizer_of("torch.optim.Muon", lr=0.01, labels=["matrix"], rest={"_target_": "torch.optim.LBFGS"}),
            r"set optimizer\.rest\.needs_closure=true",
        ),
        (
            optimizer_of("torch.optim.Muon", lr=0.01, labels=["matrix"], rest={"_target_": "torch.optim.SparseAdam"}),
            "cannot take a step",
        ),
        (optimizer_of("tests.harness.test_rehearsal.WithoutLr"), "expected an lr in its parameter groups"),
    ],
    ids=lambda value: value.get("_target_") if isinstance(value, dict) else "",
)
def test_a_refusal_is_one_line_before_anything_is_stored(
    optimizer: dict[str, Any], words: str, mapping: Mapping, small: Small, tmp_path: Path
) -> None:
    composed = {**mapping(*small("mlp")), "optimizer": optimizer}
    with pytest.raises(ConfigError, match=words) as caught:
        make_plan(composed)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


class WithoutLr(torch.optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    def step(self, closure: Any = None) -> None: ...


def test_a_task_whose_loss_fails_is_told_before_the_training(plan: MakePlan, small: Small) -> None:
    made = plan(*small("mlp"))
    config = made.trials[0].config
    task = made.tasks.get(config.task, "cpu")
    task.loss = lambda model, batch: torch.zeros(()).bogus
    with pytest.raises(ConfigError, match=r"cannot take a step on task=mlp: AttributeError: .*bogus"):
        rehearse(task, config)


def test_what_does_not_fit_into_memory_is_left_to_the_training(plan: MakePlan, small: Small) -> None:
    made = plan(*small("mlp"))
    config = made.trials[0].config
    task = made.tasks.get(config.task, "cpu")

    def loss(model: object, batch: object) -> None:
        raise torch.OutOfMemoryError

    task.loss = loss
    rehearse(task, config)


class Wrapper(torch.optim.AdamW):
    """Hands its options on, as wrappers do."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)


@pytest.mark.parametrize(
    "optimizer",
    [
        optimizer_of("torch.optim.AdamW", lr=0.1),
        optimizer_of("tests.harness.test_rehearsal.Wrapper", lr=0.1),
        optimizer_of("torch.optim.Muon", lr=0.1, labels=["matrix"], rest={"_target_": "torch.optim.AdamW"}),
        optimizer_of("optimizers.adam.AdamW", lr=0.1),
    ],
    ids=lambda optimizer: optimizer["_target_"],
)
def test_vectors_are_not_decayed_by_a_default_of_the_class(
    optimizer: dict[str, Any], mapping: Mapping, small: Small
) -> None:
    made = make_plan({**mapping(*small("mlp")), "optimizer": optimizer})
    config = made.trials[0].config
    task = made.tasks.get(config.task, "cpu")
    model = task.build_model(torch.Generator().manual_seed(0))
    labels = task.param_labels(model)
    routed = RoutedOptimizer(config.optimizer, dict(model.named_parameters()), labels)
    decays = {
        route.names[id(param)]: group["weight_decay"]
        for route in routed.routes
        for group in route.optimizer.param_groups
        for param in group["params"]
    }
    assert {decay for name, decay in decays.items() if labels[name] == "vector"} == {0.0}
    assert 0.0 not in {decay for name, decay in decays.items() if labels[name] != "vector"}
