"""What a notebook needs, under the names that `import bench` gives: plan, train, load_runs, load_model, analyse."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from bench.analysis import findings
from bench.analysis.findings import Findings
from bench.analysis.load import Loaded, load
from bench.analysis.targets import parse_target
from bench.cli.compose import compose, resolve
from bench.cli.explain import check_choices, explain
from bench.errors import ConfigError
from bench.jobs.job import train_plan
from bench.jobs.plan import Plan, make_plan
from bench.runs.folders import READ_ERRORS, read_run
from bench.runs.folders import explain as tell_unreadable
from bench.runs.schema import Run
from bench.runs.weights import load_model as load_weights

PathLike: TypeAlias = str | os.PathLike[str]


def plan(*overrides: str, config_dir: PathLike | None = None) -> Plan:
    """A checked plan of the trials that a command line would train.

    Args:
        overrides: as behind `python -m bench`: `plan("optimizer=adamw", "task=mlp", "sweep=lr", "tracker=none")`.
        config_dir: a folder of your own yaml files, as behind `--config-dir`.

    Returns:
        The plan. `trials` are the cells of the sweep, `finished` the stored runs among them by run id, `missing` those
        that `train` will train, and `packing` tells how: packs, seconds, workers.

    Raises:
        ConfigError: a mistake, in one line that names key, value and what is allowed. Nothing is written.
    """
    own_dirs = [] if config_dir is None else [Path(config_dir)]
    try:
        check_choices(overrides)
        mapping = resolve(compose(overrides, own_dirs))
    except (HydraException, OmegaConfBaseException) as error:
        args = [*(f"--config-dir={folder}" for folder in own_dirs), *overrides]
        raise ConfigError.of_line(explain(error, args)) from error
    return make_plan(mapping)


def train(plan: Plan) -> list[Run]:
    """Train what is missing of a plan, with a progress line on stderr, and store it as the command line does.

    Returns:
        The runs of all trials of the plan, in its order, those on fresh seeds behind them. Of a run, `status` is one of
        completed, diverged and timeout, `summary` holds its figures (losses unscaled, times in seconds), `cell` its
        swept values, and `folder` is where it is stored.

    Raises:
        StoreError: the results folder cannot be written.
        JobFailedError: a trial failed by a fault of the code; the others are stored.
        KeyboardInterrupt: it was stopped; what is finished is stored, and the same plan goes on from there.
    """
    try:
        return train_plan(plan, tell=False)
    except SystemExit as stopped:
        raise KeyboardInterrupt from stopped


def load_runs(*paths: PathLike) -> Loaded:
    """Read every run at or below these folders, whoever wrote it; what cannot be read is listed, never raised.

    Returns:
        Three data frames.

        `runs`, one row per run: run_id, path, status, seed, task, optimizer, sweep, steps, batch_size, hyperparameters
        (a dict of dotted keys), final_val_loss, best_val_loss, train_seconds, step_seconds, num_parameters, torch,
        device_name and more, all listed by `help(bench.analysis)`.

        `metrics`, one row per run and evaluation: run (the index of `runs`), step, train_loss, val_loss, lr,
        train_seconds, elapsed_seconds, every further metric of the task; NaN where a run has no such column.

        `problems`, one row per folder that could not be used: path, problem.

    Raises:
        ValueError: a path that is no folder.
    """
    return load([Path(path) for path in paths])


def load_model(run: Run | PathLike, device: str = "cpu") -> nn.Module:
    """The model that a run trained, with its final weights, in evaluation mode.

    Args:
        run: trained with `save_weights=true`; from `train`, or the folder that it is stored in.
        device: as in a configuration: `cpu`, `cuda`, `cuda:1`.

    Returns:
        The task's model. Its weights are those of `final_test_loss`: in training, not averages of them. Where the run
        trained alone on the same machine, evaluated they give that loss to the last bit.

    Raises:
        ValueError: in one line, no such run, no weights, damaged ones, or ones that the task's model does not have.
    """
    if not isinstance(run, Run) and not Path(run).is_dir():
        raise ValueError(f"{run}: no such folder; expected a run, or its folder results/TASK/OPTIMIZER/RUN_ID")
    try:
        found = run if isinstance(run, Run) else read_run(Path(run))
    except READ_ERRORS as error:
        raise ValueError(f"{run}: {tell_unreadable(error)}") from error
    return load_weights(found, device)


def analyse(loaded: Loaded, *, baseline: str | None = None, targets: Sequence[str] = (), seed: int = 0) -> Findings:
    """Compare optimizers on the same seeds: everything that the report shows, as data frames.

    Args:
        loaded: from `load_runs`.
        baseline: the optimizer that all others are compared with; None chooses adamw, adam, sgd or the first by name.
        targets: `[TASK:]METRIC<=VALUE` (or >=) in place of the runs' own targets.
        seed: of the bootstrap.

    Returns:
        The findings. `verdicts` has one row per optimizer and setting: the difference to the baseline with its
        interval; each frame's columns stand at the function of `bench.analysis` that makes it.

    Raises:
        ValueError: a baseline or target that does not exist, or no run that can be compared.
    """
    overrides = [parse_target(text) for text in targets]
    found = findings.analyse(loaded, baseline=baseline, target_overrides=overrides, seed=seed)
    if found is None:
        raise ValueError("none of these runs can be compared: none completed or diverged with a loss")
    return found
