"""The training loop: rows, statuses, timing, determinism."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.errors import ConfigError
from bench.jobs.plan import Plan
from bench.runs.summary import Summary
from bench.training.clock import PARTS, StepClock
from bench.training.ensemble import Ensemble
from bench.training.interrupt import StopSignal
from bench.training.learner import PlainLearner
from bench.training.record import Record, Row
from bench.training.train import train
from optimizers.rule import Rule, zeros_state
from optimizers.rule_optimizer import RuleOptimizer

MakePlan = Callable[..., Plan]
Small = Callable[[str], list[str]]


def train_first(plan: Plan, stop: StopSignal | None = None) -> Record:
    trial = plan.trials[0]
    (record,) = train([trial.config], plan.tasks.get(trial.config.task, "cpu"), [], stop or StopSignal())
    return record


def test_rows_stand_at_every_evaluation_and_at_the_end(plan: MakePlan, small: Small) -> None:
    record = train_first(plan(*small("mlp"), "task.steps=25", "task.eval_every=10"))
    assert [row["step"] for row in record.rows] == [0, 10, 20, 25]
    assert record.status == "completed"
    assert math.isnan(record.rows[0]["train_loss"])
    assert "full_val_loss" in record.rows[-1]
    assert "full_val_loss" not in record.rows[1]


def test_lr_column_is_the_scheduled_lr(plan: MakePlan, small: Small) -> None:
    overrides = ["optimizer.lr=0.01", "schedule=linear", "schedule.warmup_fraction=0", "task.steps=20"]
    record = train_first(plan(*small("mlp"), *overrides, "task.eval_every=10"))
    assert record.rows[1]["lr"] == pytest.approx(0.005)
    assert record.rows[2]["lr"] == pytest.approx(0.0)


def test_lr_zero_leaves_the_model_at_its_initial_loss(plan: MakePlan, small: Small) -> None:
    record = train_first(plan(*small("mlp"), "optimizer=sgd", "optimizer.lr=0"))
    assert len({row["val_loss"] for row in record.rows}) == 1
    assert Summary.from_record(record).steps_to_target is None


def test_step_parts_add_up_to_the_loop_time(plan: MakePlan, small: Small) -> None:
    made = plan(*small("mlp"), "task.steps=400", "task.eval_every=400")
    started = time.perf_counter()
    record = train_first(made)
    outside = time.perf_counter() - started
    row = record.rows[-1]
    parts = sum(row[f"{part}_seconds"] for part in PARTS)
    assert parts == pytest.approx(row["step_seconds"])
    assert record.first_step_seconds + 399 * parts == pytest.approx(row["train_seconds"], rel=0.05)
    assert row["train_seconds"] < row["elapsed_seconds"] < outside


def test_the_same_trial_twice_gives_bitwise_equal_losses(plan: MakePlan, small: Small) -> None:
    made = plan(*small("gpt_nano"), "optimizer=adamuon", "task.steps=20", "task.eval_every=5")
    first, second = train_first(made), train_first(made)
    assert [row["val_loss"] for row in first.rows] == [row["val_loss"] for row in second.rows]
    assert [row["train_loss"] for row in first.rows[1:]] == [row["train_loss"] for row in second.rows[1:]]


def test_every_optimizer_starts_from_the_same_weights_and_sees_the_same_batches(plan: MakePlan, small: Small) -> None:
    frozen = ["task.steps=10", "task.eval_every=5", "optimizer.lr=0"]
    records = [train_first(plan(*small("mlp"), f"optimizer={name}", *frozen)) for name in ("adamw", "sgd", "lion")]
    losses = {tuple(row["train_loss"] for row in record.rows[1:]) for record in records}
    assert len(losses) == 1


def test_divergence_ends_the_trial_and_says_where(plan: MakePlan, small: Small) -> None:
    record = train_first(plan(*small("mlp"), "optimizer.lr=1e30", "task.eval_every=5"))
    assert record.status == "diverged"
    assert "non-finite" in str(record.message) or "times the initial one" in str(record.message)
    assert record.rows[-1]["step"] < 100


def test_a_loss_beyond_the_factor_is_divergence_though_finite(plan: MakePlan, small: Small) -> None:
    overrides = ["optimizer=sgd", "optimizer.lr=0.7", "schedule=constant", "diverge_factor=1.5"]
    record = train_first(plan(*small("rosenbrock"), "task.eval_every=1", *overrides))
    assert record.status == "diverged"


def test_a_divergence_of_madam_hints_at_scale_log2(plan: MakePlan, small: Small) -> None:
    record = train_first(plan(*small("mlp"), "optimizer=madam", "optimizer.scale_log2=-140"))
    assert record.status == "diverged"
    assert "scale_log2" in str(record.message)


def test_timeout_ends_the_trial_with_what_was_measured(plan: MakePlan, small: Small) -> None:
    record = train_first(plan(*small("mlp"), "task.steps=1000000", "task.eval_every=1000000", "timeout=0.2"))
    assert record.status == "timeout"
    assert 0.2 <= record.rows[-1]["train_seconds"] < 2.0
    assert math.isfinite(record.rows[-1]["full_val_loss"])


def test_a_trial_whose_last_evaluation_fails_is_not_completed(plan: MakePlan, small: Small) -> None:
    made = plan(*small("mlp"))
    task = made.tasks.get(made.trials[0].config.task, "cpu")
    task.num_val += 1  # the last evaluation, on the whole split, reaches for an image that is not there
    (record,) = train([trial.config for trial in made.trials], task, [], StopSignal())
    assert record.status == "failed"
    assert "out of range" in str(record.message) or "out of bounds" in str(record.message)


def test_a_stop_ends_the_trial_at_the_next_step_with_the_evaluations_so_far(plan: MakePlan, small: Small) -> None:
    made, stop, seen = plan(*small("mlp"), "task.eval_every=2"), StopSignal(), []

    class StopAtThree:
        def on_step(self, records: Sequence[Record], step: int, losses: Tensor) -> None:
            seen.append(step)
            stop.number = 15 if step == 3 else None

        def on_row(self, record: Record, row: Row) -> None:
            pass

    (record,) = train(
        [trial.config for trial in made.trials],
        made.tasks.get(made.trials[0].config.task, "cpu"),
        [StopAtThree()],
        stop,
    )
    assert record.status == "interrupted"
    assert seen == [1, 2, 3]
    assert [row["step"] for row in record.rows] == [0, 2]


def test_clipping_acts_on_the_gradient_of_the_unscaled_loss(plan: MakePlan, small: Small) -> None:
    overrides = [*small("mlp"), "optimizer=sgd", "optimizer.weight_decay=0"]
    free, clipped = (train_first(plan(*overrides, "optimizer.lr=0.1", f"clip_norm={norm}")) for norm in ("null", 0.1))
    scaled = train_first(plan(*overrides, "optimizer.lr=1.6", "clip_norm=0.1", "task.loss_scale=0.0625"))
    assert clipped.rows[-1]["val_loss"] > 1.1 * free.rows[-1]["val_loss"]
    assert scaled.rows[-1]["val_loss"] == pytest.approx(clipped.rows[-1]["val_loss"], rel=1e-3)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("pack", [False, True])
def test_the_clipped_norm_is_the_same_at_every_loss_scale(
    plan: MakePlan, small: Small, precision: str, pack: bool
) -> None:
    """One step of plain SGD with lr 1: the parameters move by the clipped gradient of the scaled loss."""
    sgd = ["optimizer=sgd", "optimizer.lr=1", "optimizer.momentum=0", "optimizer.nesterov=false", "schedule=constant"]
    overrides = [*small("mlp"), *sgd, "optimizer.weight_decay=0", "clip_norm=0.1", f"precision={precision}"]
    if pack:
        overrides += ["optimizer._target_=tests.harness.test_training.PlainSGD", "~optimizer.momentum"]
        overrides += ["~optimizer.nesterov", "+sweep.axes.seed=[0,1]"]
    for exponent in (0, -20, -30, -70, 40):
        made = plan(*overrides, "schedule.warmup_fraction=0", f"task.loss_scale={2.0**exponent}")
        configs = [trial.config for trial in made.trials]
        task = made.tasks.get(configs[0].task, "cpu")
        learner: Any = Ensemble(task, configs) if pack else PlainLearner(task, configs[0])
        params = learner.optimizer.params if pack else learner.params
        before = {name: param.detach().clone() for name, param in params.items()}
        learner.step(2.0**-exponent, StepClock(torch.device("cpu")))
        moved = [(params[name].detach() - value).double() for name, value in before.items()]
        for trial in range(len(configs)):
            norm = math.sqrt(sum(float((change[trial] if pack else change).square().sum()) for change in moved))
            assert norm == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize("options", [["diagnostics=true"], ["clip_norm=1e9", "task.loss_scale=0.25"]])
def test_the_gradients_norm_is_how_far_sgd_moves_and_stands_in_every_row_but_the_first(
    plan: MakePlan, small: Small, options: list[str]
) -> None:
    sgd = ["optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=false", "optimizer.weight_decay=0"]
    made = plan(*small("mlp"), *sgd, "precision=float64", "sweep.axes.seed=[0,1]", "sweep=seeds", *options)
    configs = [trial.config for trial in made.trials]
    task = made.tasks.get(configs[0].task, "cpu")
    norms = []
    for config in configs:
        learner = PlainLearner(task, config)
        before = {name: param.clone() for name, param in learner.weights.items()}
        learner.step(1.0, StepClock(torch.device("cpu")))
        lr = config.optimizer.hyperparameters["lr"] * config.task.loss_scale
        moved = sum(float((param - before[name]).square().sum()) for name, param in learner.weights.items())
        assert learner.grad_norm is not None
        assert learner.grad_norm.item() == pytest.approx(math.sqrt(moved) / lr, rel=1e-9)
        norms.append(learner.grad_norm.item())
    ensemble = Ensemble(task, configs)
    ensemble.step(1.0, StepClock(torch.device("cpu")))
    assert ensemble.grad_norm is not None
    assert ensemble.grad_norm.tolist() == pytest.approx(norms, rel=1e-12)
    rows = train_first(made).rows
    assert ["grad_norm" in row for row in rows] == [False, *[True] * (len(rows) - 1)]


class PlainSGD(RuleOptimizer):
    """The gradient itself, so that a pack of it can be measured."""

    rule = Rule(lambda grad: grad.clone(), zeros_state(), "flat")

    def __init__(self, params: Any, lr: float = 1.0, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "weight_decay_method": "decoupled"})


def test_a_closure_returns_the_loss_that_its_gradients_are_of(plan: MakePlan, small: Small) -> None:
    """A line search compares the two."""
    overrides = [*small("rosenbrock"), "optimizer=lbfgs", f"task.loss_scale={2.0**-10}"]
    made, returned = plan(*overrides), []
    config = made.trials[0].config
    learner = PlainLearner(made.tasks.get(config.task, "cpu"), config)
    learner.optimizer.step = lambda closure: returned.append(closure())
    loss = learner.step(1.0, StepClock(torch.device("cpu")))
    assert [float(value.detach()) for value in returned] == [float(loss) * 2.0**-10]


def test_madam_does_not_move_under_a_loss_scaled_by_a_power_of_two(plan: MakePlan, small: Small) -> None:
    overrides = [*small("mlp"), "optimizer=madam", "optimizer.scale_log2=40"]
    plain, scaled = (train_first(plan(*overrides, f"task.loss_scale={scale}")) for scale in (1.0, 2.0**-20))
    assert [row["val_loss"] for row in plain.rows] == [row["val_loss"] for row in scaled.rows]


@pytest.mark.parametrize("name", ["muon", "adamuon", "normuon", "namo"])
def test_the_muon_family_does_not_move_under_a_loss_scaled_by_a_power_of_two(
    plan: MakePlan, small: Small, name: str
) -> None:
    """All but the matrices go to Lion, whose signs do not move either."""
    rest = ["optimizer.rest._target_=optimizers.lion.Lion", "~optimizer.rest.eps", "optimizer.rest.lr=1e-3"]
    overrides = [*small("mlp"), "task.steps=40", "task.eval_every=20", f"optimizer={name}", *rest]
    records = [train_first(plan(*overrides, f"task.loss_scale={2.0**-k}")) for k in (0, 20, 100)]
    losses = [[(row["train_loss"], row["val_loss"]) for row in record.rows[1:]] for record in records]
    assert losses[1:] == [losses[0]] * 2


def test_bfloat16_trains_in_mixed_precision(plan: MakePlan, small: Small) -> None:
    exact = train_first(plan(*small("mlp")))
    mixed = train_first(plan(*small("mlp"), "precision=bfloat16"))
    assert mixed.rows[-1]["val_loss"] != exact.rows[-1]["val_loss"]
    assert mixed.rows[-1]["val_loss"] == pytest.approx(exact.rows[-1]["val_loss"], rel=0.1)


def test_a_closure_optimizer_is_driven_by_its_closure(plan: MakePlan, small: Small) -> None:
    overrides = ["optimizer=sgd", "optimizer._target_=torch.optim.LBFGS", "+optimizer.needs_closure=true"]
    drop = ["~optimizer.momentum", "~optimizer.nesterov", "~optimizer.weight_decay", "optimizer.lr=0.1"]
    record = train_first(plan(*small("quadratic"), *overrides, *drop))
    assert record.rows[-1]["val_loss"] < 0.01 * record.rows[0]["val_loss"]


def test_a_fault_of_the_code_ends_the_trial_as_failed(
    plan: MakePlan, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(*small("mlp"))
    task = made.tasks.get(made.trials[0].config.task, "cpu")
    monkeypatch.setattr(task, "loss", lambda model, batch: torch.zeros(()).bogus)
    record = train_first(made)
    assert record.status == "failed"
    assert "bogus" in str(record.message)


def test_the_test_split_is_read_once_and_stands_in_the_summary(plan: MakePlan, small: Small) -> None:
    made, read = plan(*small("mlp")), []
    task = made.tasks.get(made.trials[0].config.task, "cpu")
    batch = task.batch
    task.batch = lambda split, index: (read.append(split), batch(split, index))[1]
    (record,) = train([made.trials[0].config], task, [], StopSignal())
    assert read.count("test") == 1
    assert read[-1] == "test"
    figures = Summary.from_record(record).figures
    assert {"final_test_loss", "final_test_accuracy"} <= figures.keys()
    assert figures["final_test_loss"] == record.rows[-1]["full_test_loss"]
    assert not any("full_test_loss" in row for row in record.rows[:-1])


def test_without_data_the_test_is_the_validation(plan: MakePlan, small: Small) -> None:
    figures = Summary.from_record(train_first(plan(*small("quadratic")))).figures
    assert figures["final_test_loss"] == figures["final_val_loss"]


def test_accuracy_in_bfloat16_counts_whole_images(plan: MakePlan) -> None:
    record = train_first(plan("task=mlp", "task.steps=60", "precision=bfloat16"))
    hits = [row["val_accuracy"] * 500 for row in record.rows]
    assert hits == pytest.approx([round(hit) for hit in hits], abs=1e-9)


@pytest.mark.parametrize("metric", ["accuracy", "loss", "test_loss", "val_los"])
def test_a_target_on_what_the_task_does_not_measure_is_refused_naming_its_metrics(plan: MakePlan, metric: str) -> None:
    with pytest.raises(ConfigError, match=rf"^task\.target\.metric={metric}: .*val_loss, val_accuracy$") as caught:
        plan("task=mlp", f"task.target.metric={metric}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["0", "-0.1", ".inf", "much", "true"])
def test_a_margin_that_is_no_positive_number_is_refused(plan: MakePlan, value: str) -> None:
    with pytest.raises(ConfigError, match=r"^task\.relevant="):
        plan("task=mlp", f"task.relevant={value}")


@pytest.mark.parametrize("parts", [2, 5, 16, 1000])
def test_a_batch_in_parts_trains_as_the_whole_batch_to_rounding(plan: MakePlan, small: Small, parts: int) -> None:
    options = [*small("mlp"), "precision=float64", "task.steps=20", "task.eval_every=5", "clip_norm=0.5"]
    whole, in_parts = train_first(plan(*options)), train_first(plan(*options, f"+task.accumulate={parts}"))
    for name in ("train_loss", "val_loss"):
        expected = [row[name] for row in whole.rows[1:]]
        assert [row[name] for row in in_parts.rows[1:]] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "true", "many"])
def test_parts_that_are_no_count_are_refused(plan: MakePlan, value: str) -> None:
    with pytest.raises(ConfigError, match=r"^task\.accumulate="):
        plan("task=mlp", f"+task.accumulate={value}")
