"""Averages of the weights: what they are, and that the training beside them does not notice."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from bench.errors import ConfigError
from bench.jobs.plan import Plan
from bench.training.averaging import LatestSnapshots, MovingAverages
from bench.training.clock import StepClock
from bench.training.ensemble import Ensemble
from bench.training.interrupt import StopSignal
from bench.training.learner import PlainLearner
from bench.training.record import Record
from bench.training.train import train

MakePlan = Callable[..., Plan]
Small = Callable[[str], list[str]]
EMA = ["average=ema", "average.decays=[0,0.9]"]
SEEDS = ["sweep=seeds", "sweep.axes.seed=[0,1]"]
LAWA = ["average=lawa", "average.windows=[2,3]", "average.every=7"]


def train_all(plan: Plan, positions: Sequence[int] | None = None) -> list[Record]:
    trials = plan.trials if positions is None else [plan.trials[position] for position in positions]
    task = plan.tasks.get(trials[0].config.task, "cpu")
    records = train([trial.config for trial in trials], task, [], StopSignal())
    assert all(record.status != "failed" for record in records), records[0].message
    return records


def losses(record: Record, prefix: str = "") -> list[float]:
    return [row[f"{prefix}val_loss"] for row in record.rows]


def test_moving_averages_weigh_step_i_by_a_power_of_the_decay() -> None:
    history = [torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    averages = MovingAverages([0.0, 0.7])
    assert list(averages.items()) == []
    for weights in history:
        averages.update({"w": weights})
    powers = 0.7 ** torch.arange(5, -1, -1, dtype=torch.float64)
    expected = (powers[:, None] * torch.stack(history)).sum(0) / powers.sum()
    (raw_label, raw), (label, average) = averages.items()
    assert (raw_label, label) == ("ema_0", "ema_0.7")
    assert torch.equal(raw["w"], history[-1])
    torch.testing.assert_close(average["w"], expected, rtol=1e-12, atol=1e-12)


def test_latest_snapshots_are_meant_over_their_window() -> None:
    averages = LatestSnapshots([2, 10], every=2)
    for step in range(1, 8):
        averages.update({"w": torch.tensor([float(step)])})
    assert {label: average["w"].item() for label, average in averages.items()} == {"lawa_2": 5.0, "lawa_10": 4.0}


@pytest.mark.parametrize("average", [EMA, LAWA], ids=["ema", "lawa"])
@pytest.mark.parametrize("positions", [pytest.param([0], marks=pytest.mark.slow), [0, 1]], ids=["alone", "packed"])
def test_a_training_does_not_notice_its_averages(
    plan: MakePlan, small: Small, average: list[str], positions: list[int]
) -> None:
    overrides = [*small("mlp"), "task.steps=40", "task.eval_every=20", "optimizer=adamuon", *SEEDS]
    plain, averaged = train_all(plan(*overrides), positions), train_all(plan(*overrides, *average), positions)
    assert [losses(record) for record in averaged] == [losses(record) for record in plain]
    assert averaged[0].state_bytes > plain[0].state_bytes
    for record in averaged:
        assert {"full_val_loss", "full_test_loss"} <= record.rows[-1].keys()
        if average is EMA:
            assert losses(record, "ema_0_") == losses(record)
            assert record.rows[-1]["full_ema_0_test_loss"] == record.rows[-1]["full_test_loss"]
            assert losses(record, "ema_0.9_")[0] == losses(record)[0]
            assert losses(record, "ema_0.9_")[1:] != losses(record)[1:]


@pytest.mark.parametrize("average", [EMA, LAWA], ids=["ema", "lawa"])
@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("muon", marks=pytest.mark.slow)])
def test_averages_of_a_packed_trial_equal_those_of_the_trial_alone(
    plan: MakePlan, small: Small, average: list[str], optimizer: str
) -> None:
    exact = ["optimizer.fp32_matmul_prec=highest"] if optimizer == "muon" else []
    seeds = ["sweep=seeds", "sweep.axes.seed=[0,1,2]", "precision=float64"]
    made = plan(*small("mlp"), f"optimizer={optimizer}", *exact, *seeds, *average)
    names = ["ema_0.9_"] if average is EMA else ["lawa_2_", "lawa_3_"]
    packed = train_all(made)
    for position, record in enumerate(packed):
        (alone,) = train_all(made, [position])
        for name in names:
            assert losses(record, name) == pytest.approx(losses(alone, name), rel=1e-12)


def test_averages_of_those_that_stay_are_the_same_where_a_trial_diverges(plan: MakePlan, small: Small) -> None:
    wild = "sweep.axes.optimizer.lr=[0.01,1.0e30,0.001]"
    made = plan(*small("mlp"), "optimizer=adamw", "task.eval_every=10", "sweep=lr", wild, "average=ema")
    records, calm = train_all(made), train_all(made, [0, 2])
    assert [record.status for record in records] == ["completed", "diverged", "completed"]
    assert [losses(record, "ema_") for record in (records[0], records[2])] == [losses(one, "ema_") for one in calm]


@pytest.mark.parametrize("positions", [[0], [0, 1]], ids=["alone", "packed"])
def test_schedule_free_training_is_evaluated_at_its_average_and_does_not_notice(
    plan: MakePlan, small: Small, positions: list[int]
) -> None:
    overrides = [*small("mlp"), "optimizer=schedule_free_adamw", "schedule=constant", "task.steps=40", *SEEDS]
    often, seldom = (train_all(plan(*overrides, f"task.eval_every={steps}"), positions) for steps in (1, 40))
    assert [losses(record)[-1] for record in often] == [losses(record)[-1] for record in seldom]
    made = plan(*overrides)
    configs = [made.trials[position].config for position in positions]
    task = made.tasks.get(configs[0].task, "cpu")
    learner: Any = PlainLearner(task, configs[0]) if len(configs) == 1 else Ensemble(task, configs)
    for _ in range(20):
        learner.step(1.0, StepClock(torch.device("cpu")))
    trained = {name: weight.clone() for name, weight in learner.weights.items()}
    learner.optimizer.set_mode("eval")
    averaged = {name: weight.clone() for name, weight in learner.weights.items()}
    learner.optimizer.set_mode("train")
    measured = [learner.evaluate("val", full=True, weights=own)["val_loss"] for own in (None, averaged, trained)]
    assert torch.equal(measured[0], measured[1])
    assert not torch.equal(measured[0], measured[2])
    assert all(torch.equal(weight, trained[name]) for name, weight in learner.weights.items())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("average.decays=[1.0]", ["average.decays", "1.0", "[0, 1)"]),
        ("average.decays=[]", ["decays"]),
        ("average.decays=[0.9,0.9]", ["decays"]),
        ("average.windows=[3]", ["windows"]),
        ("average.every=0", ["average.every", "0"]),
    ],
)
def test_a_mistake_in_the_averages_is_one_line(plan: MakePlan, override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        plan("average=ema", f"++{override}")
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)
