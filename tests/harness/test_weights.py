"""Final weights on request: those that the final test loss is of, in a file that is verified and executes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import bench
from bench.jobs.job import run_job, train_plan
from bench.jobs.plan import Plan, make_plan
from bench.runs.folders import WEIGHTS_FILE, read_run
from bench.runs.schema import Run
from bench.training.checkpoint import Checkpoint
from bench.training.components import load_task
from bench.training.interrupt import StopSignal
from bench.training.train import train
from bench.verify.folder import check_folder
from tests.harness.test_checkpoint import Cadence, StopAt, numbers

MakePlan = Callable[..., Plan]
Mapping = Callable[..., dict[str, Any]]
Small = Callable[[str], list[str]]
KEEP = "save_weights=true"
SHORT = ["task.steps=6", "task.eval_every=3"]
SEEDS = ["sweep=seeds", "sweep.axes.seed=[0,1,2]"]
LEANING = ["optimizer=custom", "optimizer._target_=tests.harness.test_weights.Leaning", "+optimizer.lr=0.01"]
WILD = ["sweep=lr", "sweep.axes.optimizer.lr=[0.01,1.0e30,0.001]"]


@torch.no_grad()
def loss_of_loaded(run: Run | Path) -> float:
    """The loss of the loaded model on the whole test split."""
    stored = run if isinstance(run, Run) else read_run(run)
    task = load_task(stored.trial("cpu").task, "cpu")
    return float(task.evaluate(bench.load_model(run), "test", full=True)["test_loss"])


@pytest.mark.parametrize("options", [["task=resnet_bn"], ["optimizer=schedule_free_adamw"], ["optimizer=muon"]])
def test_the_loaded_models_test_loss_is_the_stored_one(plan: MakePlan, small: Small, options: list[str]) -> None:
    task = [] if "task=resnet_bn" in options else small("mlp")
    (run,) = train_plan(plan(*task, *options, *SHORT, KEEP), tell=False)
    assert loss_of_loaded(run) == run.summary.figures["final_test_loss"]
    assert loss_of_loaded(run.folder) == run.summary.figures["final_test_loss"]
    assert not bench.load_model(run).training


@pytest.mark.parametrize("options", [["task=resnet_bn"], ["optimizer=schedule_free_adamw"]])
def test_every_trial_of_a_pack_keeps_its_own(plan: MakePlan, small: Small, options: list[str]) -> None:
    task = [] if "task=resnet_bn" in options else small("mlp")
    runs = train_plan(plan(*task, *options, *SHORT, *SEEDS, "pack_size=3", KEEP), tell=False)
    assert [run.pack.size for run in runs] == [3, 3, 3]
    losses = [loss_of_loaded(run) for run in runs]
    assert len(set(losses)) == 3
    assert losses == pytest.approx([run.summary.figures["final_test_loss"] for run in runs], rel=1e-5)


class Leaning(torch.optim.SGD):
    """Evaluates other weights than it trains; there and back rounds."""

    @torch.no_grad()
    def eval(self) -> None:
        for param in self.param_groups[0]["params"]:
            param.mul_(1.1)

    @torch.no_grad()
    def train(self) -> None:
        for param in self.param_groups[0]["params"]:
            param.div_(1.1)


@pytest.mark.parametrize("own", [["optimizer=schedule_free_adamw"], LEANING])
def test_keeping_weights_changes_no_bit_of_trials_that_go_on(plan: MakePlan, small: Small, own: list[str]) -> None:
    made = plan(*small("mlp"), *own, "task.eval_every=10", *WILD)
    task, configs = made.tasks.get(made.trials[0].config.task, "cpu"), [trial.config for trial in made.trials]
    plain, keeping = (train(configs, task, [], StopSignal(), keep_weights=keep) for keep in (False, True))
    assert [record.status for record in keeping] == ["completed", "diverged", "completed"]
    assert [numbers(record) for record in plain] == [numbers(record) for record in keeping]
    assert [record.weights is None for record in plain] == [True] * 3
    assert all(record.weights is not None for record in keeping)


def test_weights_of_a_trial_that_ended_early_outlive_a_stop_of_its_pack(
    plan: MakePlan, small: Small, tmp_path: Path
) -> None:
    made = plan(*small("mlp"), "task.eval_every=10", *WILD)
    task, configs = made.tasks.get(made.trials[0].config.task, "cpu"), [trial.config for trial in made.trials]
    stop = StopSignal()
    checkpoint = Checkpoint(tmp_path, [trial.run_id for trial in made.trials], Cadence(steps=1000))
    first = train(configs, task, [StopAt(35, stop)], stop, checkpoint, keep_weights=True)
    assert [record.status for record in first] == ["interrupted", "diverged", "interrupted"]
    second = train(configs, task, [], StopSignal(), checkpoint, keep_weights=True)
    for name, tensor in (first[1].weights or {}).items():
        assert second[1].weights is not None
        assert torch.equal(torch.nan_to_num(second[1].weights[name]), torch.nan_to_num(tensor))
    assert all(record.weights for record in second)


def test_a_run_without_weights_is_told_and_trained_again_only_by_force(
    mapping: Mapping, small: Small, caplog: pytest.LogCaptureFixture
) -> None:
    composed = mapping(*small("mlp"), *SHORT)
    run_job(composed)
    run_job({**composed, "save_weights": True})
    assert "stored without weights: 1 finished run; force=true trains again" in caplog.text
    (run,) = make_plan(composed).finished.values()
    folder = next(Path(composed["results_dir"]).rglob("run.json")).parent
    with pytest.raises(ValueError, match="stored without weights: train it again with save_weights=true force=true"):
        bench.load_model(folder)
    run_job({**composed, "save_weights": True, "force": True})
    assert make_plan(composed).finished[run.run_id].files.keys() == {"metrics.parquet", WEIGHTS_FILE}
    assert set(load_file(folder / WEIGHTS_FILE)) == set(dict(bench.load_model(folder).named_parameters()))


@pytest.mark.parametrize("damage", ["flip", "remove", "add"])
def test_damaged_weights_are_found_told_and_trained_again(
    mapping: Mapping, small: Small, damage: str, tmp_path: Path
) -> None:
    composed = mapping(*small("mlp"), *SHORT, *([] if damage == "add" else [KEEP]))
    run_job(composed)
    folder = next(Path(composed["results_dir"]).rglob("run.json")).parent
    file, faulty = folder / WEIGHTS_FILE, "is there, and run.json does not list it"
    if damage == "flip":
        content, faulty = bytearray(file.read_bytes()), "does not match its checksum"
        content[-1] ^= 1
        file.write_bytes(content)
    elif damage == "remove":
        faulty = "is missing"
        file.unlink()
    else:
        file.write_bytes(b"anything")
    assert check_folder(folder).faults == [f"{WEIGHTS_FILE} {faulty}"]
    assert not make_plan(composed).finished
    with pytest.raises(ValueError, match=r"^[^\n]*(checksum|missing|without weights)[^\n]*$"):
        bench.load_model(folder)
    run_job(composed)
    assert not check_folder(folder).faults


def test_weights_of_another_model_and_a_folder_without_a_run_are_one_line(
    plan: MakePlan, small: Small, tmp_path: Path
) -> None:
    (run,) = train_plan(plan(*small("mlp"), *SHORT, KEEP), tell=False)
    wider = {**run.config, "task": {**run.config["task"], "width": 20}}  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"of another model: head\.weight is \(10, 16\) in the file and \(10, 20\)"):
        bench.load_model(run.model_copy(update={"config": wider}).at(run.folder))
    with pytest.raises(ValueError, match=r"run\.json is missing"):
        bench.load_model(tmp_path)
    with pytest.raises(ValueError, match=r"^0a1b2c: no such folder; expected a run, or its folder results/[^\n]+$"):
        bench.load_model("0a1b2c")
