"""`python -m bench.check optimizer=NAME`: the conformance checks from the command line."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.console import Console

from bench.check.subject import Subject
from bench.check.suite import FAIL, NOT_APPLICABLE, PASS, Finding, make_table, run_checks
from bench.cli.arguments import admit_own_files, check_words
from bench.cli.compose import compose, resolve
from bench.cli.explain import check_choices, explain, is_mistake
from bench.cli.folders import own_dirs
from bench.config.optimizer import OptimizerConfig, parse_optimizer
from bench.config.plain import check_plain
from bench.config.schema import MAX_TRIAL_VALUES, parse_trial, split_mapping
from bench.errors import UnknownKeyError, stoppable, tell_error
from bench.training.components import load_task
from bench.training.model import build_model, trainable
from bench.training.proof import NotPackableError, prove_model
from bench.training.routing import check_optimizer, find_optimizer_class, wrap

USAGE = """\
usage: python -m bench.check optimizer=NAME [optimizer.KEY=VALUE ...] [task=NAME ...] [--config-dir DIR]

Puts an optimizer through the conformance checks: NAME is a yaml in conf/optimizer/, or in DIR/optimizer/ for your own.
With a task, packs are checked on the shapes of that task's parameters, and the task's model is checked too.
Exit code 0: nothing failed; 1: a check failed; 2: a mistake on this line.
"""


def compose_optimizer(overrides: Sequence[str], folders: Sequence[Path]) -> OptimizerConfig:
    """The optimizer that the command line asks for. Raises ConfigError, HydraException or OmegaConfBaseException."""
    mapping = OmegaConf.to_container(compose(overrides, folders).optimizer, resolve=True)
    check_plain({"optimizer": mapping}, MAX_TRIAL_VALUES)
    return parse_optimizer(mapping)


def make_subject(config: OptimizerConfig, shapes: Mapping[str, torch.Size] | None = None) -> Subject:
    """The factory of a configured optimizer. Raises ConfigError for what its class refuses."""
    check_optimizer(config)
    inner = config.base or config
    optimizer_class = find_optimizer_class(inner)

    def build(params: Any) -> torch.optim.Optimizer:
        optimizer = optimizer_class(params, **inner.hyperparameters)
        return optimizer if config.base is None else wrap(config, [optimizer])

    return Subject(build, config.needs_closure, config, shapes or {})


def examine_task(overrides: Sequence[str], folders: Sequence[Path]) -> tuple[dict[str, torch.Size], Finding]:
    """The shapes of a task's parameters, and whether its model trains in packs.

    Raises:
        ConfigError: the task is not configured right. Else as `compose_optimizer`.
    """
    trial = parse_trial(split_mapping(resolve(compose([*overrides, "device=cpu"], folders)))[0])
    task = load_task(trial.task, trial.device)
    shapes = {name: param.shape for name, param in trainable(build_model(task, trial)).items()}
    try:
        prove_model(task, [trial, trial])
    except NotPackableError as reason:
        return shapes, Finding(f"task {trial.task.name}", NOT_APPLICABLE, f"trains one by one: {reason}")
    return shapes, Finding(f"task {trial.task.name}", PASS, "its model moves in a pack as alone")


@stoppable
def main(args: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    if not args or {"--help", "-h"} & set(args):
        print(USAGE)
        return 0 if args else 2
    try:
        admit_own_files(Path.cwd())
        check_words(args)
        check_choices(args)
        overrides = _split(args)
        config = compose_optimizer(overrides["optimizer"], own_dirs(args))
        shapes, of_task = examine_task(overrides["task"], own_dirs(args)) if overrides["task"] else ({}, None)
        findings = run_checks(make_subject(config, shapes)) + ([of_task] if of_task else [])
    except Exception as error:
        if not is_mistake(error):
            raise
        return tell_error(explain(error, args), 2)
    Console().print(make_table(config.name, findings), highlight=False)
    return 1 if any(finding.status == FAIL for finding in findings) else 0


def _split(args: Sequence[str]) -> dict[str, list[str]]:
    """The overrides of the optimizer and those of the task. Raises UnknownKeyError for any other."""
    overrides: dict[str, list[str]] = {"optimizer": [], "task": []}
    for key, equals, value in (arg.partition("=") for arg in args):
        part = key.lstrip("+~").partition(".")[0]
        if not equals or key.startswith("-"):
            continue
        if part not in overrides:
            raise UnknownKeyError(key, value, overrides)
        overrides[part].append(f"{key}={value}")
    return overrides


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
