"""A trial that goes on from its checkpoint is, to the last bit, the trial that was never disturbed."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from bench.config.cadence import Cadence, parse_cadence
from bench.config.session import SessionConfig
from bench.config.validation import check
from bench.errors import ConfigError
from bench.jobs.plan import Plan
from bench.runs.trial import Trial
from bench.training.checkpoint import Checkpoint, find_checkpointed
from bench.training.interrupt import StopSignal
from bench.training.record import Record, Row
from bench.training.train import train
from tests.configured import NAMES, OURS, configured, one_of_each_kind_first

MakePlan = Callable[..., Plan]
Small = Callable[[str], list[str]]
# HeavyBall's compile for most of a minute each, and its PSGD keeps a random generator outside of its state_dict
INSTANT = [name for name in NAMES if not name.startswith("heavyball")]
SEEDS = ["sweep=seeds", "sweep.axes.seed=[0,1,2]"]
STEPS, STOP_STEP = 13, 8  # the last checkpoint of an undisturbed training is at step 12


class StopAt:
    """A watcher that asks for a stop at a step, as a signal would."""

    def __init__(self, step: int | None, stop: StopSignal) -> None:
        self.step, self.stop = step, stop

    def on_step(self, records: Sequence[Record], step: int, losses: Tensor) -> None:
        if step == self.step:
            self.stop.number = 15

    def on_row(self, record: Record, row: Row) -> None:
        pass


def run(plan: Plan, trials: Sequence[Trial], folder: Path, stop_at: int | None = None) -> list[Record]:
    stop = StopSignal()
    checkpoint = Checkpoint(folder, [trial.run_id for trial in trials], Cadence(steps=12))
    task = plan.tasks.get(trials[0].config.task, "cpu")
    return train([trial.config for trial in trials], task, [StopAt(stop_at, stop)], stop, checkpoint)


def numbers(record: Record) -> list[dict[str, float]]:
    """All rows without their times; NaN as text, so that rows compare equal."""
    return [{name: repr(value) for name, value in row.items() if not name.endswith("_seconds")} for row in record.rows]


def assert_same_training(plan: Plan, trials: Sequence[Trial], folder: Path) -> None:
    """Undisturbed, and stopped and begun again: same rows, same parameters, same optimizer state, same generators."""
    calm = run(plan, trials, folder / "calm")
    assert {record.status for record in calm} == {"completed"}, calm[0].message
    stopped = run(plan, trials, folder / "stopped", STOP_STEP)
    assert {record.status for record in stopped} == {"interrupted"}
    resumed = run(plan, trials, folder / "stopped")
    assert [record.status for record in resumed] == ["completed"] * len(trials), resumed[0].message
    assert [numbers(record) for record in resumed] == [numbers(record) for record in calm]
    states = [last_state(folder / name, trials) for name in ("calm", "stopped")]
    assert states[0]["step"] == states[1]["step"] == 12
    for one, other in zip(*(tree_leaves(state["learner"]) for state in states), strict=True):
        assert torch.equal(one, other) if isinstance(one, Tensor) else repr(one) == repr(other)


def last_state(folder: Path, trials: Sequence[Trial]) -> Any:
    return Checkpoint(folder, [trial.run_id for trial in trials], Cadence()).load()


@pytest.mark.parametrize("optimizer", one_of_each_kind_first([*OURS, "nadam", "rmsprop"]))
def test_a_pack_goes_on_bit_by_bit(plan: MakePlan, small: Small, tmp_path: Path, optimizer: str) -> None:
    made = plan(f"optimizer={optimizer}", *small("mlp"), f"task.steps={STEPS}", "task.eval_every=5", *SEEDS)
    assert_same_training(made, made.trials, tmp_path)


@pytest.mark.parametrize("optimizer", one_of_each_kind_first(INSTANT))
def test_a_single_trial_goes_on_bit_by_bit(plan: MakePlan, small: Small, tmp_path: Path, optimizer: str) -> None:
    pytest.importorskip(configured(optimizer).class_path.partition(".")[0])
    made = plan(f"optimizer={optimizer}", *small("mlp"), f"task.steps={STEPS}", "task.eval_every=5", "clip_norm=1.0")
    assert_same_training(made, made.trials, tmp_path)


@pytest.mark.parametrize("task", ["quadratic", "rosenbrock", "gpt_nano"])
def test_every_task_goes_on_bit_by_bit(plan: MakePlan, small: Small, tmp_path: Path, task: str) -> None:
    spike = f"+task.spike={{step: {STOP_STEP + 1}, factor: 100}}"
    short = ["schedule=wsd", f"task.steps={STEPS}", "task.eval_every=5", "diagnostics=true", spike, *SEEDS]
    made = plan("optimizer=adamuon" if task == "gpt_nano" else "optimizer=adam", *small(task), *short)
    assert_same_training(made, made.trials, tmp_path / "pack")
    assert_same_training(made, made.trials[:1], tmp_path / "alone")


@pytest.mark.parametrize("average", ["average.decays=[0.9,0.98]", "average.windows=[2,3]"])
def test_averages_go_on_bit_by_bit(plan: MakePlan, small: Small, tmp_path: Path, average: str) -> None:
    kind = ["average=ema"] if "decays" in average else ["average=lawa", "average.every=5"]
    made = plan("optimizer=adamw", *small("mlp"), f"task.steps={STEPS}", "task.eval_every=5", *kind, average, *SEEDS)
    assert_same_training(made, made.trials, tmp_path / "pack")
    assert_same_training(made, made.trials[:1], tmp_path / "alone")


def test_warm_ups_go_on_where_they_were(plan: MakePlan, small: Small, tmp_path: Path) -> None:
    warm = ["optimizer.num_beta_slow_warmup_steps=30", "optimizer.num_alpha_warmup_steps=30"]
    made = plan("optimizer=ademamix", *small("mlp"), f"task.steps={STEPS}", "task.eval_every=5", *warm, *SEEDS)
    assert_same_training(made, made.trials, tmp_path)


def test_a_pack_goes_on_after_a_trial_has_left_it(plan: MakePlan, small: Small, tmp_path: Path) -> None:
    lrs = "sweep.axes.optimizer.lr=[0.01,1.0e30,0.001]"
    made = plan("optimizer=adamw", *small("mlp"), f"task.steps={STEPS}", "task.eval_every=5", "sweep=lr", lrs)
    calm = run(made, made.trials, tmp_path / "calm")
    run(made, made.trials, tmp_path / "stopped", STOP_STEP)
    resumed = run(made, made.trials, tmp_path / "stopped")
    assert [record.status for record in resumed] == ["completed", "diverged", "completed"]
    assert [numbers(record) for record in resumed] == [numbers(record) for record in calm]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other trials", "pickle"])
def test_a_damaged_checkpoint_is_set_aside_and_its_trials_begin_again(
    plan: MakePlan, small: Small, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    made = plan("optimizer=adamw", *small("mlp"), f"task.steps={STEPS}", "task.eval_every=5", *SEEDS)
    calm = run(made, made.trials, tmp_path / "calm")
    run(made, made.trials, tmp_path / "stopped", STOP_STEP)
    (path,) = (tmp_path / "stopped").glob("*.ckpt")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    canary = tmp_path / "executed"
    if damage == "other trials":
        single = Checkpoint(tmp_path / "other", [made.trials[0].run_id], Cadence())
        run(made, made.trials[:1], tmp_path / "other", STOP_STEP)
        Checkpoint(tmp_path / "stopped", [trial.run_id for trial in made.trials], Cadence()).save(single.load() or {})
    elif damage == "pickle":
        Checkpoint(tmp_path / "stopped", [t.run_id for t in made.trials], Cadence()).save({"evil": Evil(str(canary))})
    else:
        path.write_bytes({"truncated": content[:-9], "flipped": content, "empty": b""}[damage])
    again = run(made, made.trials, tmp_path / "stopped")
    assert [numbers(record) for record in again] == [numbers(record) for record in calm]
    (aside,) = (tmp_path / "stopped").glob(".*.damaged")
    assert str(aside) in caplog.text
    assert not canary.exists()


class Evil:
    """Creates a file when it is unpickled the ordinary way."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def test_a_state_that_cannot_be_saved_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = Checkpoint(tmp_path, ["a"], Cadence(steps=1))
    checkpoint.save({"optimizer": lambda: None})
    assert "this state cannot be saved, so there will be no checkpoint" in caplog.text
    assert not checkpoint.is_due(1)
    assert not list(tmp_path.iterdir())


def test_packs_with_a_checkpoint_are_found_by_their_trials(tmp_path: Path) -> None:
    for run_ids in (["a", "b"], ["c"], ["d", "e"]):
        Checkpoint(tmp_path, run_ids, Cadence()).save({})
    assert sorted(find_checkpointed(tmp_path, ["a", "b", "c", "d"])) == [["a", "b"], ["c"]]
    assert list(find_checkpointed(tmp_path / "none", ["a"])) == []


def test_cadence() -> None:
    assert parse_cadence(None) is None
    by_steps, by_time = parse_cadence(50), parse_cadence("5min")
    assert by_steps == Cadence(steps=50)
    assert by_time == Cadence(seconds=300)
    assert parse_cadence("auto") == Cadence(seconds=60)
    assert [by_steps.is_due(step, math.inf if step == 7 else 1e9) for step in (49, 50, 100)] == [False, True, True]
    assert not Cadence().is_due(50, 1e9)


SETTINGS = {"force": False, "dry_run": False, "report": False, "save_weights": False, "pack_size": "auto", "workers": 1}


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "soon", "0s", "5 min", "1e9s", "nan", [], "-3s"])
def test_a_wrong_cadence_is_one_line(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^checkpoint_every=.*: expected auto, null, a number of steps"):
        check(SessionConfig, {"checkpoint_every": value, "results_dir": "x", "tracker": {"wandb": False}, **SETTINGS})
