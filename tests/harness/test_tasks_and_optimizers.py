"""That the shipped defaults are worth comparing: tasks that are neither solved at the start nor out of reach."""

import pickle
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.config.folders import find_conf_dir
from bench.jobs.plan import Plan
from bench.runs.summary import Summary
from bench.training.interrupt import StopSignal
from bench.training.record import Record
from bench.training.train import train
from tasks.gpt_nano import GPTTask, bigram_loss

MakePlan = Callable[..., Plan]
TASKS = sorted(file.stem for file in (find_conf_dir() / "task").glob("*.yaml"))


@pytest.fixture(autouse=True)
def skip_without_the_extra(request: pytest.FixtureRequest) -> None:
    if (
        "task" in request.fixturenames
        and request.getfixturevalue("task") == "tabular"
        and find_spec("plotnine") is None
    ):
        pytest.skip("needs the extra `data`")


def train_first(plan: Plan) -> Record:
    (trial,) = plan.trials
    (record,) = train([trial.config], plan.tasks.get(trial.config.task, "cpu"), [], StopSignal())
    return record


@pytest.fixture
def cifar_folder(tmp_path: Path) -> Path:
    """Random images in CIFAR-10's layout."""
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        images = rng.integers(0, 256, (40, 3072), dtype=np.uint8)
        batch = {b"data": images, b"labels": rng.integers(0, 10, 40).tolist(), b"batch_label": b"", b"filenames": []}
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol=2))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "steps"), [("adamuon", 60), ("adamw", 150), ("madam", 150)])
def test_a_part_of_gpt_nanos_budget_beats_the_bigram_model_at_the_defaults(
    plan: MakePlan, optimizer: str, steps: int
) -> None:
    made = plan("task=gpt_nano", f"task.steps={steps}", f"task.eval_every={steps}", f"optimizer={optimizer}")
    record = train_first(made)
    task = made.tasks.get(record.trial.task, "cpu")
    assert isinstance(task, GPTTask)
    assert record.status == "completed"
    assert record.rows[-1]["full_val_loss"] < bigram_loss(task)


@pytest.mark.parametrize("task", TASKS)
def test_no_target_is_met_by_the_initial_weights_or_by_sgd_with_lr_zero(
    plan: MakePlan, task: str, cifar_folder: Path
) -> None:
    path = [f"task.path={cifar_folder}"] if task == "cifar" else []
    made = plan(f"task={task}", *path, "optimizer=sgd", "optimizer.lr=0", "task.steps=2", "task.eval_every=2")
    record = train_first(made)
    assert record.status == "completed"
    assert Summary.from_record(record).steps_to_target is None
    losses = [row["val_loss"] for row in record.rows]
    model = made.tasks.get(record.trial.task, "cpu").build_model(torch.Generator().manual_seed(0))
    moving = any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    # More steps would not reach it either: at most BatchNorm's running statistics, which no lr holds back, settle.
    assert max(losses) - min(losses) <= (0.01 * losses[0] if moving else 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_tuned_adamw_reaches_the_target_within_the_budget(plan: MakePlan, task: str) -> None:
    if task == "cifar":
        pytest.skip("its target means real images, which no test may fetch")
    tuned = ["optimizer=adamw", "optimizer.lr=${task.tuned_lr}", "stop_at_target=true"]
    record = train_first(plan(f"task={task}", *tuned))
    assert record.status == "reached"
    assert Summary.from_record(record).steps_to_target == record.rows[-1]["step"] <= record.trial.task.steps
