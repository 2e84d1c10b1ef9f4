"""Presets compose into valid trials, and say what they claim."""

from pathlib import Path

import pytest

from bench.cli.compose import compose, resolve
from bench.config.folders import find_conf_dir
from bench.config.schema import TrialConfig, parse_trial, split_mapping
from bench.training.components import build_schedule
from bench.training.routing import check_optimizer

EXPERIMENTS = sorted(path.stem for path in (find_conf_dir() / "experiment").glob("*.yaml"))


def compose_trial(*overrides: str) -> TrialConfig:
    trial, _ = split_mapping(resolve(compose(overrides)))
    return parse_trial(trial)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_is_a_valid_trial(name: str) -> None:
    trial = compose_trial(f"experiment={name}")
    check_optimizer(trial.optimizer)
    build_schedule(trial.schedule, trial.task.steps)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_says_in_a_line_what_it_is(name: str) -> None:
    first, second = (find_conf_dir() / "experiment" / f"{name}.yaml").read_text().splitlines()[:2]
    assert first == "# @package _global_"
    assert second.startswith("# ")


def test_shakespeare_cpu_is_the_recipe_of_nanogpts_readme() -> None:
    trial = compose_trial("experiment=shakespeare_cpu")
    options, hyperparameters = trial.task.options, trial.optimizer.hyperparameters
    assert (options["num_layers"], options["num_heads"], options["width"], options["context"]) == (4, 4, 128, 64)
    assert (options["batch_size"], trial.task.steps, options["data"]) == (12, 2000, "tiny_shakespeare")
    assert (hyperparameters["lr"], hyperparameters["betas"]) == (1e-3, [0.9, 0.99])
    assert (hyperparameters["weight_decay"], trial.clip_norm) == (0.1, 1.0)
    factor = build_schedule(trial.schedule, trial.task.steps)
    assert factor(50) == pytest.approx(0.5)
    assert factor(100) == pytest.approx(1.0)
    assert factor(2000) == pytest.approx(0.1)


def test_shakespeare_cpu_takes_a_local_copy_of_its_text(tmp_path: Path) -> None:
    trial = compose_trial("experiment=shakespeare_cpu", "task.data=text", f"task.path={tmp_path / 'input.txt'}")
    assert trial.task.options["data"] == "text"
