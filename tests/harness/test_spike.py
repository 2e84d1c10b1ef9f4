"""A spike multiplies the gradient of one step, and nothing else: not the reported loss, not the steps around it."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch

from bench.errors import ConfigError
from bench.jobs.plan import Plan
from bench.training.clock import StepClock
from bench.training.ensemble import Ensemble
from bench.training.interrupt import StopSignal
from bench.training.learner import PlainLearner
from bench.training.record import Record
from bench.training.train import train

MakePlan = Callable[..., Plan]
Small = Callable[[str], list[str]]
SHORT = ["task.steps=20", "task.eval_every=1"]
SGD = ["optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=false", "optimizer.weight_decay=0"]
SEEDS = ["sweep=seeds", "sweep.axes.seed=[0,1]"]


def spike(step: int, factor: float) -> str:
    return f"+task.spike={{step: {step}, factor: {factor}}}"


def train_all(plan: Plan, positions: Sequence[int] = (0,)) -> list[Record]:
    trials = [plan.trials[position] for position in positions]
    task = plan.tasks.get(trials[0].config.task, "cpu")
    return train([trial.config for trial in trials], task, [], StopSignal())


def numbers(record: Record) -> list[list[str]]:
    return [[repr(value) for name, value in row.items() if not name.endswith("_seconds")] for row in record.rows]


def moves(plan: Plan, num_trials: int) -> list[torch.Tensor]:
    """The change of all parameters in each of three steps."""
    configs = [trial.config for trial in plan.trials[:num_trials]]
    task = plan.tasks.get(configs[0].task, "cpu")
    learner: Any = PlainLearner(task, configs[0]) if num_trials == 1 else Ensemble(task, configs)
    positions = [torch.cat([weight.flatten() for weight in learner.weights.values()])]
    for _ in range(3):
        learner.step(1.0, StepClock(torch.device("cpu")))
        positions.append(torch.cat([weight.flatten() for weight in learner.weights.values()]))
    return [after - before for before, after in pairwise(positions)]


@pytest.mark.parametrize("num_trials", [1, 2], ids=["alone", "packed"])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_step_of_sgd_is_longer_by_the_factor_at_the_spike_alone(
    plan: MakePlan, small: Small, num_trials: int, accumulate: int
) -> None:
    parts = [f"+task.accumulate={accumulate}"] if num_trials == 1 else []
    overrides = [*small("mlp"), *SHORT, *SGD, *SEEDS, *parts, "precision=float64", "optimizer.lr=1e-4"]
    calm, spiked = moves(plan(*overrides), num_trials), moves(plan(*overrides, spike(2, 1e3)), num_trials)
    assert torch.equal(calm[0], spiked[0])
    torch.testing.assert_close(spiked[1], 1e3 * calm[1], rtol=1e-9, atol=1e-12)
    assert float(spiked[2].norm()) < 2 * float(calm[2].norm())


def test_the_reported_loss_does_not_know_of_the_spike(plan: MakePlan, small: Small) -> None:
    overrides = [*small("mlp"), *SHORT, "optimizer=adam"]
    (calm,), (spiked,) = train_all(plan(*overrides)), train_all(plan(*overrides, spike(5, 1e6)))
    losses = [[row["train_loss"] for row in record.rows[1:]] for record in (calm, spiked)]
    assert losses[0][:5] == losses[1][:5]  # the fifth is the loss whose gradient is multiplied
    assert losses[0][5:] != losses[1][5:]


def test_a_factor_of_one_is_no_spike_in_every_bit(plan: MakePlan, small: Small) -> None:
    overrides = [*small("mlp"), *SHORT, "optimizer=adam"]
    (calm,), (spiked,) = train_all(plan(*overrides)), train_all(plan(*overrides, spike(5, 1.0)))
    assert numbers(calm) == numbers(spiked)


@pytest.mark.parametrize("optimizer", ["adam", "laprop", "madam"])
def test_a_packed_spike_is_the_spike_alone(plan: MakePlan, small: Small, optimizer: str) -> None:
    made = plan(*small("mlp"), *SHORT, f"optimizer={optimizer}", *SEEDS, "precision=float64", spike(5, 1e3))
    for position, packed in enumerate(train_all(made, [0, 1])):
        (alone,) = train_all(made, [position])
        for name in ("train_loss", "val_loss"):
            losses = [[row[name] for row in record.rows[1:]] for record in (packed, alone)]
            assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_a_closure_returns_the_loss_that_its_gradients_are_of(plan: MakePlan, small: Small) -> None:
    made, returned = plan(*small("rosenbrock"), "optimizer=lbfgs", spike(1, 8.0)), []
    config = made.trials[0].config
    learner = PlainLearner(made.tasks.get(config.task, "cpu"), config)
    learner.optimizer.step = lambda closure: returned.append(closure())
    loss = learner.step(1.0, StepClock(torch.device("cpu")))
    assert [float(value.detach()) for value in returned] == [8 * float(loss)]


def test_clipping_holds_the_spike(plan: MakePlan, small: Small) -> None:
    overrides = [*small("mlp"), *SHORT, *SGD, *SEEDS, "clip_norm=1e-3", "schedule=constant", "optimizer.lr=1"]
    for num_trials in (1, 2):
        _, move, _ = moves(plan(*overrides, spike(2, 1e6)), num_trials)
        assert float(move.norm()) == pytest.approx(1e-3 * math.sqrt(num_trials), rel=1e-3)


def test_a_spike_is_part_of_what_a_trial_is(plan: MakePlan, small: Small) -> None:
    trials = [plan(*small("mlp"), *own).trials[0] for own in ([], [spike(5, 10)], [spike(5, 20)], [spike(6, 10)])]
    assert len({trial.run_id for trial in trials}) == 4
    assert "spike" not in trials[0].config.mapping["task"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{step: 101, factor: 2}", "task.spike.step=101: expected a step of the training's 100"),
        ("{step: 0, factor: 2}", "task.spike.step=0: expected a whole number from 1"),
        ("{step: 5, factor: 0}", "task.spike.factor=0: expected a finite number above 0"),
        ("{step: 5, factor: inf}", "task.spike.factor=inf: expected a finite number"),
        ("{step: 5}", "task.spike.factor=None: this key is required"),
        ("{step: 5, factor: 2, width: 3}", "task.spike.width=3: no such key"),
        ("3", "task.spike=3: expected"),
    ],
)
def test_a_wrong_spike_is_one_line(plan: MakePlan, small: Small, value: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan(*small("mlp"), f"+task.spike={value}")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
