"""Where configuration lies: the shipped folder, and the user's own. Imports little, so that `--help` is quick."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.config.folders import find_conf_dir

GROUPS = ("optimizer", "task", "schedule", "average", "sweep", "tracker", "experiment", "suite")


def own_dirs(args: Sequence[str]) -> list[Path]:
    """The user's own folders of configuration, from `--config-dir`."""
    return [Path(value) for flag, value in _flag_values(args) if flag in ("--config-dir", "-cd")]


def config_dirs(args: Sequence[str]) -> list[Path]:
    """Folders of configuration: the user's own before the shipped one."""
    return [*own_dirs(args), find_conf_dir()]


def _flag_values(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    for position, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if arg.startswith("-"):
            yield flag, value if equals else (args[position + 1] if position + 1 < len(args) else "")
