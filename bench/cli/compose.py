"""Composing the configuration with Hydra outside of its own command line."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from bench.config.equal_ranges import section_of_class
from bench.config.folders import find_conf_dir
from bench.config.optimizer import OptimizerConfig
from bench.config.task import TaskConfig
from bench.errors import ConfigError

OPTIONAL = re.compile(
    rf"optimizer(\.base|\.rest)*\.({'|'.join(OptimizerConfig.model_fields)})=|task\.({'|'.join(TaskConfig.model_fields)})="
)
OmegaConf.register_new_resolver("class_name", lambda path: path.rpartition(".")[2].lower(), replace=True)


def compose(overrides: Sequence[str], own_dirs: Sequence[Path] = ()) -> DictConfig:
    """The configuration that these overrides make.

    Args:
        overrides: as on the command line, without options.
        own_dirs: folders of configuration that go before the shipped one.

    Raises:
        ConfigError: a folder that is not there.
        HydraException, OmegaConfBaseException: a mistake in an override or in a yaml file.
    """
    for folder in own_dirs:
        if not folder.is_dir():
            raise ConfigError("--config-dir", str(folder), "no such folder")
    search_path = ",".join(f"file://{folder.resolve()}" for folder in own_dirs)
    with hydra.initialize_config_dir(str(find_conf_dir()), version_base="1.3"):
        return hydra.compose("config", [*admit_optional(overrides), f"hydra.searchpath=[{search_path}]"])


def admit_optional(overrides: Sequence[str]) -> list[str]:
    """The same overrides, where keys that every optimizer or task has need no + though their yaml leaves them out."""
    return [f"++{text}" if OPTIONAL.match(text) else text for text in overrides]


def compose_with_optimizer(optimizer: str, overrides: Sequence[str], own_dirs: Sequence[Path] = ()) -> DictConfig:
    """The configuration with an optimizer by its yaml's name or, where it has none, by the import path of its class.

    Args:
        optimizer: a name such as `adamw`, or a path such as `torch.optim.RAdam`, which gets its class's own defaults.
        overrides: all others, `optimizer.KEY=VALUE` among them.
        own_dirs: as for `compose`.

    Raises:
        ConfigError: the class cannot be imported, or has no default learning rate. Else as `compose`.
    """
    if "." not in optimizer:
        return compose([f"optimizer={optimizer}", *overrides], own_dirs)
    is_own = [text.lstrip("+").startswith("optimizer.") for text in overrides]
    config = compose([text for text, own in zip(overrides, is_own, strict=True) if not own], own_dirs)
    changes = [text.partition(".")[2] for text, own in zip(overrides, is_own, strict=True) if own]
    config.optimizer = OmegaConf.merge(section_of_class(optimizer), OmegaConf.from_dotlist(changes))
    return config


def resolve(config: DictConfig) -> dict[str, Any]:
    """The plain values of a configuration. Raises OmegaConfBaseException for one that is missing."""
    mapping = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(mapping, dict)
    return {str(key): value for key, value in mapping.items()}
