"""What trains is the model that the user wrote, alone and in a pack."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bench.config.cadence import Cadence
from bench.jobs.plan import Plan
from bench.training.checkpoint import Checkpoint
from bench.training.clock import StepClock
from bench.training.ensemble import Ensemble
from bench.training.interrupt import StopSignal
from bench.training.learner import PlainLearner
from bench.training.model import build_model
from bench.training.randomness import CountedRandomness
from bench.training.record import Record
from bench.training.train import train
from tasks.recurrent import GRU
from tests.harness.models import TASKS, ModelTask, Partial, Tied, convolution, dropout_net, resnet

MakePlan = Callable[..., Plan]
CLOCK = StepClock(torch.device("cpu"))
SHORT = ["task=mlp", "task.steps=20", "task.eval_every=5", "precision=float64", "sweep=seeds", "sweep.axes.seed=[0,1]"]


def numbers(records: list[Record]) -> list[list[dict[str, float]]]:
    names = ("val_loss", "val_accuracy", "train_loss", "test_loss", "full_val_loss")
    return [[{name: row[name] for name in names if name in row} for row in record.rows[1:]] for record in records]


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("adamuon", marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", TASKS)
def test_a_packed_model_equals_it_alone_and_goes_on_bit_by_bit(
    plan: MakePlan, tmp_path: Path, model: str, optimizer: str
) -> None:
    exact = ["optimizer.fp32_matmul_prec=highest"] if optimizer == "adamuon" else []
    configs = [trial.config for trial in plan(*SHORT, f"optimizer={optimizer}", *exact, "clip_norm=1.0").trials]
    task = TASKS[model]()

    def trained(count: int, stop_at: int | None = None) -> list[Record]:
        stop = StopSignal()

        class Stopper:
            on_row = staticmethod(lambda record, row: None)

            @staticmethod
            def on_step(records: object, step: int, losses: object) -> None:
                stop.number = 15 if step == stop_at else None

        checkpoint = Checkpoint(tmp_path, [str(number) for number in range(count)], Cadence())
        records = train(configs[:count], task, [Stopper()], stop, checkpoint)
        assert {record.status for record in records} <= {"completed", "interrupted"}, records[0].message
        return records

    packed = numbers(trained(2))
    alone = [numbers(train([config], task, [], StopSignal()))[0] for config in configs]
    for mine, others in zip(packed, alone, strict=True):
        for row, other in zip(mine, others, strict=True):
            assert row == pytest.approx(other, rel=1e-11 if optimizer == "adamuon" else 1e-12)
    trained(2, stop_at=7)
    assert numbers(trained(2)) == packed
    trained(1, stop_at=7)
    assert numbers(trained(1)) == alone[:1]


def learners(plan: MakePlan, task: ModelTask, *overrides: str) -> tuple[PlainLearner, Ensemble]:
    configs = [trial.config for trial in plan(*SHORT, *overrides).trials]
    return PlainLearner(task, configs[0]), Ensemble(task, configs)


def test_buffers_ties_plain_tensors_and_own_initialisation_are_kept(plan: MakePlan) -> None:
    task = ModelTask(Tied, (4,), tokens=True)
    configs = [trial.config for trial in plan(*SHORT).trials]
    model, again, other = (build_model(task, configs[position]) for position in (0, 0, 1))
    assert isinstance(model, Tied)
    assert isinstance(again, Tied)
    assert sum(param.numel() for param in model.parameters()) == 3 * 8 + 3
    assert model.head.weight is model.embedding.weight
    assert model.gain.tolist() == [2.0] * 8
    assert model.head.bias.tolist() == [0.25] * 3
    assert torch.equal(model.direction, again.direction)
    assert model.direction.dtype == torch.float64
    assert not torch.equal(model.direction, other.get_buffer("direction"))


def test_a_loaded_state_dict_trains_from_what_was_loaded(plan: MakePlan) -> None:
    loaded = {name: torch.full_like(value, 0.5) for name, value in nn.Linear(6, 3).state_dict().items()}

    def make() -> nn.Module:
        model = nn.Linear(6, 3)
        model.load_state_dict(loaded)
        return model

    alone, pack = learners(plan, ModelTask(make, (6,)))
    assert all(bool((param == 0.5).all()) for param in alone.params.values())
    assert all(bool((param == 0.5).all()) for param in pack.optimizer.params.values())


def test_frozen_parameters_stay_and_unused_ones_get_no_step_not_even_decay(plan: MakePlan) -> None:
    alone, pack = learners(plan, ModelTask(Partial, (6,)), "optimizer=adamw", "optimizer.weight_decay=0.5")
    before = {name: param.clone() for name, param in alone.model.named_parameters()}
    for _ in range(3):
        alone.step(1.0, CLOCK)
        pack.step(1.0, CLOCK)
    values = {**pack.optimizer.params, **pack.constants}
    for name, param in alone.model.named_parameters():
        assert torch.equal(param, before[name]) == name.startswith(("frozen", "unused")), name
        torch.testing.assert_close(values[name][0], param, rtol=1e-12, atol=1e-12)
    assert pack.num_parameters == alone.num_parameters == sum(value.numel() for value in before.values())


def test_a_parameter_that_is_used_late_begins_at_its_own_first_step(plan: MakePlan) -> None:
    class Late(Partial):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            x = torch.relu(self.frozen(x))
            return self.head(torch.relu(self.unused(x) if self.calls > 2 else self.middle(x)))

    alone, pack = learners(plan, ModelTask(Late, (6,)), "optimizer=adamw")
    for _ in range(5):
        alone.step(1.0, CLOCK)
        pack.step(1.0, CLOCK)
    for name, param in alone.params.items():
        torch.testing.assert_close(pack.optimizer.params[name][0], param, rtol=1e-12, atol=1e-12)


def test_a_model_without_anything_to_train_is_told(plan: MakePlan) -> None:
    config = plan(*SHORT).trials[0].config
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        PlainLearner(ModelTask(lambda: nn.Linear(6, 3).requires_grad_(False), (6,)), config)


@pytest.mark.parametrize("make", [resnet, dropout_net])
def test_validation_is_in_evaluation_mode_and_repeats_itself(plan: MakePlan, make: Callable[[], nn.Module]) -> None:
    alone, pack = learners(plan, ModelTask(make, (6,) if make is dropout_net else (3, 6, 6)))
    for learner in (alone, pack):
        learner.step(1.0, CLOCK)
        assert torch.equal(
            learner.evaluate("val", full=True)["val_loss"], learner.evaluate("val", full=True)["val_loss"]
        )
    inputs, labels = alone.task.batch("val", torch.arange(alone.task.num_val))
    logits = alone.model.eval()(inputs.double())
    assert alone.evaluate("val", full=True)["val_loss"].item() == pytest.approx(
        nn.functional.cross_entropy(logits, labels).item()
    )


def test_the_same_seed_drops_the_same_units_whatever_the_optimizer(plan: MakePlan) -> None:
    task = ModelTask(dropout_net, (6,))
    made = [plan(*SHORT, f"optimizer={name}", "optimizer.lr=0") for name in ("adamw", "sgd", "lion")]
    alone = [PlainLearner(task, one.trials[0].config) for one in made]
    losses = {tuple(learner.step(1.0, CLOCK).item() for _ in range(3)) for learner in alone}
    assert len(losses) == 1
    assert len(set(losses.pop())) == 3


def test_dropped_shares_are_as_asked_and_differ_by_seed_step_and_place() -> None:
    ones, masks = torch.ones(100, 1000), []
    for seed, step in ((0, 1), (1, 1), (0, 2)):
        with CountedRandomness().of(seed, step):
            masks += [nn.functional.dropout(ones, 0.3), nn.functional.dropout(ones, 0.3)]
    for position, mask in enumerate(masks):
        assert (mask == 0).float().mean().item() == pytest.approx(0.3, abs=0.005)
        assert mask.max().item() == pytest.approx(1 / 0.7)
        for other in masks[:position]:
            both = ((mask == 0) & (other == 0)).float().mean().item()
            assert both == pytest.approx(0.09, abs=0.005)


def test_drawn_numbers_have_the_moments_of_their_distributions() -> None:
    with CountedRandomness().of(3, 1):
        uniform, normal = torch.rand(200, 500), torch.randn_like(torch.empty(200, 500))
        filled = torch.empty(200, 500).normal_(2.0, 3.0)
        coins, selu = (
            torch.bernoulli(torch.full((200, 500), 0.2)),
            nn.functional.alpha_dropout(normal, 0.3, training=True),
        )
        channels = nn.functional.dropout2d(torch.ones(50, 40, 3, 3), 0.5)
    assert (uniform.mean().item(), uniform.std().item()) == pytest.approx((0.5, 12**-0.5), abs=0.01)
    assert (normal.mean().item(), normal.std().item()) == pytest.approx((0.0, 1.0), abs=0.01)
    assert (filled.mean().item(), filled.std().item()) == pytest.approx((2.0, 3.0), abs=0.05)
    assert coins.mean().item() == pytest.approx(0.2, abs=0.01)
    assert (selu.mean().item(), selu.std().item()) == pytest.approx((0.0, 1.0), abs=0.02)
    assert set(channels.flatten(2).sum(-1).flatten().tolist()) == {0.0, 18.0}


def test_dropout_in_a_forward_pass_that_is_computed_again_is_refused(plan: MakePlan) -> None:
    class Recomputed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = dropout_net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(self.net, x, use_reentrant=False)  # type: ignore[no-any-return]

    config = plan(*SHORT).trials[0].config
    with pytest.raises(RuntimeError, match="activation checkpointing"):
        PlainLearner(ModelTask(Recomputed, (6,)), config).step(1.0, CLOCK)


def test_muon_in_channels_last_gives_the_numbers_of_the_contiguous_model(plan: MakePlan) -> None:
    config = plan(*SHORT, "optimizer=muon", "optimizer.fp32_matmul_prec=highest").trials[0].config
    tasks = ModelTask(convolution, (3, 6, 6)), TASKS["channels_last"]()
    plain, last = (train([config], task, [], StopSignal())[0] for task in tasks)
    assert last.status == "completed", last.message
    assert last.rows[-1]["val_loss"] == pytest.approx(plain.rows[-1]["val_loss"], rel=1e-9)
    assert last.rows[-1]["val_loss"] != last.rows[0]["val_loss"]


def test_the_gru_computes_what_torch_does() -> None:
    mine, theirs = GRU(5, 6), nn.GRU(5, 6, batch_first=True)
    with torch.no_grad():
        for kind, layers in (("ih", mine.inputs), ("hh", mine.hidden)):
            for part in ("weight", "bias"):
                joined = torch.cat([layers[gate].get_parameter(part) for gate in "rzn"])
                theirs.get_parameter(f"{part}_{kind}_l0").copy_(joined)
    x = torch.randn(3, 4, 5)
    torch.testing.assert_close(mine(x), theirs(x)[0])
