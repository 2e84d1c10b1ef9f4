"""Properties that every task has, whatever it is."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tasks.base import Task

CONF = Path(__file__).parents[2] / "conf" / "task"
NUM_TRIALS = 3


class Bound(nn.Module):
    """A method of a task as the forward pass of a module around its model."""

    def __init__(self, model: nn.Module, method: Callable[..., Any], **options: Any) -> None:
        super().__init__()
        self.model, self.method, self.options = model, method, options

    def forward(self, *args: Any) -> Any:
        return self.method(self.model, *args, **self.options)


def build(task: Task, seed: int = 0) -> nn.Module:
    return task.build_model(torch.Generator().manual_seed(seed))


def samples(task: Task, seed: int, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([task.sample(generator) for _ in range(count)])


def flat(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def is_met(metrics: dict[str, Tensor], target: dict[str, Any]) -> bool:
    value = metrics[target["metric"]].item()
    return value <= target["value"] if target["mode"] == "min" else value >= target["value"]


def test_yaml_says_what_the_task_is_and_comments_every_key(task_config: dict[str, Any]) -> None:
    first, *lines = (CONF / f"{task_config['name']}.yaml").read_text().splitlines()
    assert first.startswith("# ")
    keys = [line for line in lines if not line.startswith(("#", "name:", "_target_:")) and line.strip()]
    assert [line for line in keys if "  # " not in line] == []
    assert set(task_config["target"]) == {"metric", "value", "mode"}
    assert task_config["relevant"] > 0
    assert task_config["target"]["mode"] in ("min", "max")
    assert task_config["loss_scale"] == 1.0


def test_same_seed_gives_the_same_weights_and_another_seed_others(task: Task) -> None:
    assert torch.equal(flat(build(task, 0)), flat(build(task, 0)))
    assert not torch.equal(flat(build(task, 0)), flat(build(task, 1)))


def test_weights_ignore_and_keep_the_global_random_state(task: Task) -> None:
    torch.manual_seed(1)
    first = flat(build(task))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(first, flat(build(task)))
    assert torch.equal(state, torch.get_rng_state())


def test_a_model_leaves_the_seeds_of_gpus_alone(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    torch.manual_seed(1)
    build(task)
    assert seeds == [1]


def test_weights_are_finite_float32_and_none_is_left_unset(task: Task) -> None:
    weights = flat(build(task))
    assert weights.dtype == torch.float32
    assert weights.isfinite().all()
    assert weights.abs().max() < 10


def test_same_seed_gives_the_same_batches_and_another_seed_others(task: Task) -> None:
    first = samples(task, 0)
    assert first.dtype == torch.int64
    assert first.device.type == "cpu"
    assert first.shape[1] == task.batch_size
    assert torch.equal(first, samples(task, 0))
    if task.num_train > 1:
        assert not torch.equal(first, samples(task, 1))


def test_batch_is_a_pure_function_of_the_index(task: Task) -> None:
    index = samples(task, 0, 1)[0]
    torch.testing.assert_close(task.batch("train", index), task.batch("train", index.clone()), rtol=0, atol=0)


def test_labels_cover_all_parameters_with_the_four_labels(task: Task) -> None:
    model = build(task)
    labels = task.param_labels(model)
    parameters = dict(model.named_parameters())
    assert labels.keys() == parameters.keys()
    assert set(labels.values()) <= {"matrix", "embedding", "head", "vector"}
    for name, label in labels.items():
        assert (label == "vector") == (parameters[name].ndim < 2), name


@pytest.mark.slow
def test_target_is_not_met_at_initialisation(task: Task, task_config: dict[str, Any]) -> None:
    for seed in range(3):
        for full in (False, True):
            assert not is_met(task.evaluate(build(task, seed), "val", full=full), task_config["target"])


def test_splits_share_no_example_and_test_is_not_val_but_where_no_data_stand_behind(task: Task) -> None:
    if task.validation_is_truth:
        model = build(task)
        measured = task.evaluate(model, "val", full=True), task.evaluate(model, "test", full=True)
        assert measured[0]["val_loss"] == measured[1]["test_loss"]
        return
    sizes = {"val": task.num_val, "test": task.num_test}
    held_out = {split: inputs_of(task.batch(split, torch.arange(size))) for split, size in sizes.items()}
    assert min(len(rows) for rows in held_out.values()) > 1
    assert not held_out["val"] & held_out["test"]
    generator = torch.Generator().manual_seed(0)
    drawn = set.union(*(inputs_of(task.batch("train", task.sample(generator))) for _ in range(50)))
    assert len(drawn & (held_out["val"] | held_out["test"])) <= len(drawn) / 100  # a text repeats itself here and there


def inputs_of(batch: Any) -> set[bytes]:
    return {row.numpy().tobytes() for row in (batch[0] if isinstance(batch, tuple) else batch)}


def test_evaluation_gives_finite_scalars_and_is_repeatable(task: Task) -> None:
    model = build(task)
    metrics = task.evaluate(model, "val", full=False)
    assert "val_loss" in metrics
    assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in metrics.values())
    torch.testing.assert_close(metrics, task.evaluate(model, "val", full=False), rtol=0, atol=0)


def test_evaluation_is_the_mean_over_examples_however_it_is_cut(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(task).double().eval()  # BatchNorm in training sees the batch
    reference = task.evaluate(model, "val", full=False)
    monkeypatch.setattr(task, "eval_chunk", 7)
    torch.testing.assert_close(task.evaluate(model, "val", full=False), reference, rtol=1e-12, atol=0)


@pytest.mark.parametrize("split", ["val", "test"])
def test_full_evaluation_sees_every_example_of_the_split_once(
    task: Task, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []
    batch = task.batch

    def record(split: str, index: Tensor) -> Any:
        seen.extend((split, number) for number in index.tolist())
        return batch(split, index)

    monkeypatch.setattr(task, "batch", record)
    task.evaluate(build(task), split, full=True)
    read = "val" if task.validation_is_truth else split
    size = task.num_val if read == "val" else task.num_test
    assert seen == [(read, number) for number in range(size)]


def test_metrics_under_bfloat16_are_means_of_whole_examples(task: Task) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        measured = task.evaluate(build(task), "val", full=True)
    assert {name.removeprefix("val_") for name in measured} == set(task.metric_names)
    assert {value.dtype for value in measured.values()} == {torch.float64}
    if "val_accuracy" in measured:
        hits = measured["val_accuracy"].item() * task.num_val
        assert hits == pytest.approx(round(hits), abs=1e-6)


def test_a_few_steps_of_adamw_lower_the_training_loss(task: Task) -> None:
    model = build(task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = task.batch("train", samples(task, 0, 1)[0])
    initial = task.loss(model, batch).item()
    for _ in range(10):
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
    assert math.isfinite(initial)
    assert task.loss(model, batch).item() < initial


def test_loss_is_in_the_precision_of_the_model(task: Task) -> None:
    batch = task.batch("train", samples(task, 0, 1)[0])
    model = build(task)
    single, double = task.loss(model, batch), task.loss(model.double(), batch)
    assert single.dtype == torch.float32
    assert double.dtype == torch.float64
    assert single.item() == pytest.approx(double.item(), rel=1e-5)
    assert task.evaluate(model, "val", full=False)["val_loss"].dtype == torch.float64


def test_stacked_models_under_vmap_equal_each_alone(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "num_eval", min(task.num_eval, 64))
    models = [build(task, seed).double() for seed in range(NUM_TRIALS)]
    index = torch.stack([samples(task, seed, 1)[0] for seed in range(NUM_TRIALS)])
    alone = [task.batch("train", one) for one in index]
    losses = torch.stack([task.loss(model, batch) for model, batch in zip(models, alone, strict=True)])
    losses.sum().backward()

    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batches = vmap(lambda one: task.batch("train", one))(index)
        loss = Bound(models[0], task.loss)
        parameters, buffers = stack_module_state([Bound(model, task.loss) for model in models])
        packed = vmap(lambda state, batch: functional_call(loss, state, (batch,)))((parameters, buffers), batches)
        packed.sum().backward()
        evaluate = Bound(models[0], task.evaluate, split="val", full=False).eval()
        metrics = vmap(lambda state: functional_call(evaluate, state, ()))((parameters, buffers))
    assert [warning for warning in caught if "performance drop" in str(warning.message)] == []

    for trial in range(NUM_TRIALS):
        one = tuple(part[trial] for part in batches) if isinstance(batches, tuple) else batches[trial]
        torch.testing.assert_close(one, alone[trial], rtol=0, atol=0)
    torch.testing.assert_close(packed, losses, rtol=1e-12, atol=1e-12)
    for name, stacked in parameters.items():
        grads = [model.get_parameter(name.removeprefix("model.")).grad for model in models]
        torch.testing.assert_close(stacked.grad, torch.stack(grads), rtol=1e-10, atol=1e-12)
    for name, values in buffers.items():  # running statistics, which the packed step has moved on
        for model, value in zip(models, values, strict=True):
            model.get_buffer(name.removeprefix("model.")).copy_(value)
    for name, values in metrics.items():
        each = torch.stack([task.evaluate(model.eval(), "val", full=False)[name] for model in models])
        torch.testing.assert_close(values, each, rtol=1e-12, atol=1e-12)


def test_fingerprint_is_a_sha256_that_depends_on_the_data_alone(
    task: Task, task_config: dict[str, Any], make_task: Callable[..., Task]
) -> None:
    assert len(bytes.fromhex(task.fingerprint)) == 32
    assert make_task(task_config, batch_size=task.batch_size + 1).fingerprint == task.fingerprint


@pytest.mark.parametrize("value", [0, -1, 2**40, 1.5, "many", True, None])
def test_bad_batch_size_is_one_line_naming_key_and_value(
    task_config: dict[str, Any], make_task: Callable[..., Task], value: object
) -> None:
    with pytest.raises(ValueError, match=r"^batch_size=.*expected an integer from 1 to") as caught:
        make_task(task_config, batch_size=value)
    assert "\n" not in str(caught.value)
    assert repr(value) in str(caught.value)
