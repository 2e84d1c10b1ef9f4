"""Finding folders of configuration, and composing one with Hydra where Hydra itself could not."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

OmegaConf.register_new_resolver("class_name", lambda path: path.rpartition(".")[2].lower(), replace=True)
GROUPS = ("optimizer", "task", "schedule", "sweep", "tracker", "experiment", "suite")


def find_conf_dir() -> Path:
    """The shipped `conf/`: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parents[1]
    return here / "conf" if (here / "conf").is_dir() else here.parent / "conf"


def config_dirs(args: Sequence[str]) -> list[Path]:
    """Folders of configuration: the user's own, from `--config-dir`, before the shipped one."""
    own = [Path(value) for flag, value in _flag_values(args) if flag in ("--config-dir", "-cd")]
    return [*own, find_conf_dir()]


def _flag_values(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    for position, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if arg.startswith("-"):
            yield flag, value if equals else (args[position + 1] if position + 1 < len(args) else "")


def _compose_groups(args: Sequence[str]) -> DictConfig:
    """The configuration that the group choices among `args` make, without any other override."""
    choices = [arg.partition("=") for arg in args if arg.partition("=")[0].lstrip("+") in GROUPS]
    overrides = [f"{name}={value.split(',')[0]}" for name, _, value in choices]
    own = [f"file://{folder.resolve()}" for folder in config_dirs(args)[:-1]]
    with initialize_config_dir(str(find_conf_dir()), version_base="1.3"):
        try:
            return compose("config", [*overrides, f"hydra.searchpath=[{','.join(own)}]"])
        except HydraException:
            return compose("config")
