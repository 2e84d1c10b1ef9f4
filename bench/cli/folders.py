"""Where configuration lies: the shipped folder, and the user's own. Imports nothing, so that `--help` is quick."""

from collections.abc import Iterator, Sequence
from pathlib import Path

GROUPS = ("optimizer", "task", "schedule", "average", "sweep", "tracker", "experiment", "suite")


def find_conf_dir() -> Path:
    """The shipped `conf/`: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parents[1]
    return here / "conf" if (here / "conf").is_dir() else here.parent / "conf"


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
