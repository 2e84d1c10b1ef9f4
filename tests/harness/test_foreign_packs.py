"""Any torch optimizer in a pack: what is packed equals the trial alone, and what cannot be packed never is."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.check.__main__ import make_subject
from bench.check.packs import check_packs, check_separate_tensors
from bench.check.subject import CheckFailed
from bench.config.optimizer import OptimizerConfig
from bench.jobs.job import run_job
from bench.jobs.packing import group_by_structure
from bench.jobs.plan import Plan
from bench.jobs.proofs import Proofs
from bench.jobs.sizing import choose_packing
from bench.training.clock import StepClock
from bench.training.components import TaskShelf
from bench.training.ensemble import Ensemble
from bench.training.interrupt import StopSignal
from bench.training.learner import PlainLearner
from bench.training.proof import NotPackableError, follow, prove_model, prove_optimizer
from bench.training.record import Record
from bench.training.train import train
from bench.verify.replay import Replay, replay
from tests.harness import deceitful
from tests.harness.models import ModelTask, Partial, convolution
from tests.marks import quick_for

Mapping = Callable[..., dict[str, Any]]
MakePlan = Callable[..., Plan]
Small = Callable[[str], list[str]]
SHAPES = {name: torch.Size(shape) for name, shape in {"a": (5, 3), "b": (5, 3), "c": (4,), "d": (3, 2, 2, 2)}.items()}
LABELS = {"a": "matrix", "b": "matrix", "c": "vector", "d": "matrix"}
TORCH = ["Adam", "AdamW", "SGD", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adamax", "Adadelta"]
OPTIONS = {"SGD": {"momentum": 0.9, "nesterov": True}, "RMSprop": {"momentum": 0.9, "centered": True}}
LRS = (1e-3, 3e-3, 1e-2, 2e-2)


def configured(path: str, **options: Any) -> OptimizerConfig:
    return OptimizerConfig.model_validate({"name": "foreign", "_target_": path, **options})


def largest_gap(configs: list[OptimizerConfig], num_steps: int = 100) -> float:
    """Of packed and alone, over all parameters and trials, relative to the largest value of a parameter."""
    paths = follow(configs, SHAPES, LABELS, num_steps)
    pairs = [(paths.packed[name][k], param) for k, own in enumerate(paths.alone) for name, param in own.items()]
    assert all((param - paths.start[0][name]).abs().max() > 0 for name, param in paths.alone[0].items())
    return max(((packed - alone).abs().max() / alone.abs().max()).item() for packed, alone in pairs)


@pytest.mark.parametrize("name", quick_for(["AdamW", "NAdam", "Adagrad"], TORCH))
def test_a_hundred_steps_of_torchs_own_are_the_trials_alone(name: str) -> None:
    configs = [configured(f"torch.optim.{name}", lr=lr, **OPTIONS.get(name, {})) for lr in LRS]
    assert largest_gap(configs) < 1e-12


@pytest.mark.slow
def test_torchs_muon_on_matrices_with_a_foreign_rest_is_the_trials_alone() -> None:
    rest = {"_target_": "torch.optim.NAdam", "lr": 1e-3}
    muon = {"_target_": "torch.optim.Muon", "name": "muon", "labels": ["matrix"], "weight_decay": 0.1}
    configs = [
        OptimizerConfig.model_validate({**muon, "lr": lr, "rest": {**rest, "lr": 2 * lr}}) for lr in (1e-4, 3e-4, 1e-3)
    ]
    assert largest_gap(configs) < 1e-12


@pytest.mark.parametrize("name", ["Lion", "AdaBelief", "Adan", "StableAdamW", "Yogi", "QHAdam", "ADOPT", "AdEMAMix"])
def test_classes_of_pytorch_optimizer_are_the_trials_alone(name: str) -> None:
    pytest.importorskip("pytorch_optimizer")
    configs = [configured(f"pytorch_optimizer.{name}", lr=lr) for lr in LRS[:2]]
    prove_optimizer(configs, SHAPES, LABELS)
    assert largest_gap(configs, 30) < 1e-12


def test_every_float_hyperparameter_may_differ() -> None:
    options = [{"betas": [0.8, 0.9], "eps": 1e-6, "weight_decay": 0.1}, {"betas": [0.9, 0.99], "eps": 1e-3}]
    options[1]["weight_decay"] = 0.01
    configs = [configured("torch.optim.AdamW", lr=lr, **own) for lr, own in zip(LRS[:2], options, strict=True)]
    assert largest_gap(configs) < 1e-12


@pytest.mark.parametrize("fault", deceitful.DECEITFUL, ids=lambda fault: fault.__name__)
def test_what_would_be_shared_or_lost_in_a_pack_is_never_packed(fault: type) -> None:
    state = torch.get_rng_state()
    with pytest.raises(NotPackableError) as told:
        prove_optimizer(
            [configured(f"tests.harness.deceitful.{fault.__name__}", lr=lr) for lr in LRS[:2]], SHAPES, LABELS
        )
    assert "\n" not in str(told.value)
    torch.set_rng_state(state)


def test_a_branch_on_a_hyperparameter_is_packed_where_all_trials_go_the_same_way() -> None:
    def decayed(*values: float) -> list[OptimizerConfig]:
        return [configured("tests.harness.deceitful.Plain", lr=0.01, weight_decay=value) for value in values]

    assert largest_gap(decayed(0.1, 0.2)) < 1e-12
    with pytest.raises(NotPackableError, match="trials would go different ways"):
        prove_optimizer(decayed(0.0, 0.2), SHAPES, LABELS)


def test_trials_without_decay_are_packed_apart_where_an_optimizer_may_branch_on_it(
    plan: MakePlan, small: Small
) -> None:
    decays = "+sweep.axes.optimizer.weight_decay=[0.0,0.01,0.1]"
    made = {name: plan(f"optimizer={name}", *small("mlp"), "sweep=none", decays) for name in ("nadam", "adamw")}
    assert [len(group) for group in group_by_structure(made["nadam"].trials)] == [1, 2]
    assert [len(group) for group in group_by_structure(made["adamw"].trials)] == [3]


def test_a_sweep_of_nadam_is_one_pack_and_its_proof_is_kept(
    plan: MakePlan, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan("optimizer=nadam", *small("mlp"), "sweep=lr", "pack_size=32")
    (pack,) = choose_packing(made.trials, made.trials, made.session, made.tasks).packs
    assert len(pack.trials) == len(made.trials) > 1
    monkeypatch.setattr("bench.jobs.proofs.prove_optimizer", None)
    assert len(choose_packing(made.trials, made.trials, made.session, made.tasks).packs) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ReadsItem", "ReadsItem reads the value of a tensor (.item())"),
        ("SinglePrecision", "SinglePrecision fails alone in the proof's float64: RuntimeError: expected"),
    ],
)
def test_what_cannot_be_packed_trains_one_by_one_and_the_pack_says_why(
    name: str, reason: str, plan: MakePlan, small: Small
) -> None:
    swap = ["optimizer=sgd", f"optimizer._target_=tests.harness.deceitful.{name}"]
    drop = ["~optimizer.momentum", "~optimizer.nesterov"]
    made = plan(*swap, *drop, *small("mlp"), "sweep=lr", "sweep.axes.optimizer.lr=[0.01,0.1]", "pack_size=8")
    packs = choose_packing(made.trials, made.trials, made.session, made.tasks).packs
    assert [len(pack.trials) for pack in packs] == [1, 1]
    assert str(packs[0].reason).startswith(reason)


def train_together(plan: Plan) -> list[Record]:
    task = plan.tasks.get(plan.trials[0].config.task, "cpu")
    return train([trial.config for trial in plan.trials], task, [], StopSignal())


def test_a_diverged_trial_leaves_a_foreign_pack_and_clipping_and_diagnostics_are_those_alone(
    plan: MakePlan, small: Small
) -> None:
    short = [*small("mlp"), "task.steps=30", "task.eval_every=10", "precision=float64", "clip_norm=0.5"]
    lrs = "sweep.axes.optimizer.lr=[0.01,1.0e30,0.001]"
    made = plan("optimizer=nadam", *short, "diagnostics=true", "sweep=lr", lrs)
    packed = train_together(made)
    assert [record.status for record in packed] == ["completed", "diverged", "completed"], packed[0].message
    task = made.tasks.get(made.trials[0].config.task, "cpu")
    alone = [train([trial.config], task, [], StopSignal())[0] for trial in made.trials]
    for position in (0, 2):
        for row, other in zip(packed[position].rows[1:], alone[position].rows[1:], strict=True):
            assert row.keys() == other.keys()
            assert any(name.startswith("diag/") and "frac_below" in name for name in row)
            timeless = {name: value for name, value in other.items() if not name.endswith("_seconds")}
            assert {name: row[name] for name in timeless} == pytest.approx(timeless, rel=1e-11)


def test_a_trial_of_a_foreign_pack_trains_again_to_the_same_bits(mapping: Mapping, small: Small) -> None:
    axes = ["sweep=lr", "sweep.axes.optimizer.lr=[0.001,0.01]", "pack_size=2", "task.steps=20"]
    composed = mapping("optimizer=nadam", *small("mlp"), *axes)
    run_job(composed)
    for file in Path(composed["results_dir"]).rglob("run.json"):
        assert replay(file.parent, TaskShelf()) == Replay("bit by bit", [])


def test_other_weights_for_evaluations_and_a_state_that_begins_late_are_packed(plan: MakePlan, small: Small) -> None:
    swap = ["optimizer=sgd", "optimizer._target_=tests.harness.deceitful.Swapping"]
    drop = ["~optimizer.momentum", "~optimizer.nesterov", "precision=float64", "task.steps=9", "task.eval_every=3"]
    made = plan(*swap, *drop, *small("mlp")[:1], "sweep=lr", "sweep.axes.optimizer.lr=[0.01,0.1]")
    task = made.tasks.get(made.trials[0].config.task, "cpu")
    alone = [train([trial.config], task, [], StopSignal())[0] for trial in made.trials]
    packed = train_together(made)
    assert [r.rows[-1]["val_loss"] for r in packed] == pytest.approx([r.rows[-1]["val_loss"] for r in alone], rel=1e-12)


def model_proof(plan: MakePlan, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    configs = [trial.config for trial in plan("task=mlp", "sweep=seeds", "sweep.axes.seed=[0,1]").trials]
    prove_model(ModelTask(make, shape), configs)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(5, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class SharedList(nn.Module):
    """Random features in a list, which no one can stack."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = [torch.randn(6, 4)], nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x @ self.features[0].to(x.dtype))


def test_a_model_that_packs_is_proved(plan: MakePlan) -> None:
    model_proof(plan, convolution, (3, 4, 4))


@pytest.mark.parametrize(("make", "shape"), [(Recurrent, (4, 5)), (SharedList, (6,))])
def test_a_model_that_vmap_refuses_or_that_would_be_shared_is_told(
    plan: MakePlan, make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    with pytest.raises(NotPackableError) as told:
        model_proof(plan, make, shape)
    assert "\n" not in str(told.value)


class Broken(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).view(-1)[7:].view(3, -1)


def test_a_model_that_fails_alone_is_told_with_its_precision_and_its_error(plan: MakePlan) -> None:
    with pytest.raises(NotPackableError, match=r"^fails alone in float32: RuntimeError: shape"):
        model_proof(plan, lambda: Broken(6, 3), (6,))


def test_a_foreign_pack_trains_a_model_with_unused_and_frozen_layers(plan: MakePlan) -> None:
    short = ["task=mlp", "precision=float64", "sweep=lr", "sweep.axes.optimizer.lr=[0.01,0.1]"]
    configs = [trial.config for trial in plan("optimizer=nadam", *short).trials]
    task, clock = ModelTask(Partial, (6,)), StepClock(torch.device("cpu"))
    alone, pack = PlainLearner(task, configs[0]), Ensemble(task, configs)
    for _ in range(4):
        alone.step(1.0, clock)
        pack.step(1.0, clock)
    for name, param in alone.params.items():
        torch.testing.assert_close(pack.optimizer.params[name][0], param, rtol=1e-12, atol=1e-12)


LEAKY = """
from optimizers.rule import Rule, ema_, zeros_state
from optimizers.rule_optimizer import RuleOptimizer


def calculate_mine_update(grad, exp_avg, *, momentum, eps):
    ema_(exp_avg, grad, momentum)
    {body}


class Mine(RuleOptimizer):
    rule = Rule(calculate_mine_update, zeros_state("exp_avg"), "flat")

    def __init__(self, params, lr=1e-3, momentum=0.9, eps=1e-3, weight_decay=0.0):
        defaults = {{"lr": lr, "momentum": momentum, "eps": eps, "weight_decay": weight_decay}}
        super().__init__(params, {{**defaults, "weight_decay_method": "decoupled"}})
"""
CAUTIOUS = "mask = (exp_avg * grad > 0).to(grad.dtype); return exp_avg * mask / mask.mean().clamp(min=1e-3)"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return exp_avg / (exp_avg.abs() + eps)", None),
        (CAUTIOUS, "moves parameters elsewhere in a pack"),
        ("return exp_avg / (exp_avg.norm().item() + eps)", "moves parameters elsewhere|reads the value"),
    ],
    ids=["template", "cautious mask", "item"],
)
def test_a_rule_of_ones_own_is_proved_before_it_is_packed(
    plan: MakePlan,
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    reason: str | None,
) -> None:
    name = f"rule_{abs(hash(body))}"
    (tmp_path / f"{name}.py").write_text(LEAKY.format(body=body))
    monkeypatch.syspath_prepend(tmp_path)
    swap = ["optimizer=signum", f"optimizer._target_={name}.Mine", "~optimizer.correct_bias", "~optimizer.nesterov"]
    drop = ["~optimizer.weight_decay_method", "~optimizer.use_shape_scaling"]
    made = plan(*swap, *drop, *small("mlp"), "sweep=lr", "sweep.axes.optimizer.lr=[0.001,0.1]")
    task = made.tasks.get(made.trials[0].config.task, "cpu")
    told = Proofs(tmp_path).reason_alone(task, made.trials)
    assert told is None if reason is None else re.search(reason, str(told))
    subject = make_subject(made.trials[0].config.optimizer)
    if reason is None:
        assert "equal" in check_packs(subject)
        assert "equal" in check_separate_tensors(subject)
    else:
        with pytest.raises(CheckFailed, match="moves parameters elsewhere"):
            check_packs(subject)
        with pytest.raises(CheckFailed, match="beside other tensors"):
            check_separate_tensors(subject)
