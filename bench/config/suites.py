"""Suites: the tasks that a claim is made over, listed in `conf/suite/NAME.yaml` where Hydra's multirun reads them."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from bench.errors import ConfigError


def read_suite(name: str, folders: Sequence[Path]) -> tuple[str, ...]:
    """The names of a suite's tasks, in order.

    Args:
        name: The suite, as in `suite=NAME`.
        folders: Folders of configuration, the first that has the suite counts.

    Raises:
        ConfigError: no folder has it, or it lists no tasks.
    """
    files = {file.stem: file for folder in reversed(folders) for file in sorted((folder / "suite").glob("*.yaml"))}
    if name not in files:
        raise ConfigError("suite", name, f"expected one of {', '.join(sorted(files))}")
    tasks = OmegaConf.select(OmegaConf.load(files[name]), "hydra.sweeper.params.task")
    if not isinstance(tasks, str) or not tasks:
        raise ConfigError("suite", name, f"{files[name]} has no text at hydra.sweeper.params.task")
    return tuple(task.strip() for task in tasks.split(","))
