"""The shipped optimizers as their files configure them, without composing all that stands around them."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from bench.config.folders import find_conf_dir
from bench.config.optimizer import OptimizerConfig, parse_optimizer
from tests.marks import quick_for

FOLDER = find_conf_dir() / "optimizer"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "custom")


@cache
def configured(name: str) -> OptimizerConfig:
    return parse_optimizer(OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"), resolve=True))


OURS = [name for name in NAMES if configured(name).class_path.startswith("optimizers.") and not configured(name).base]
"""Those that are rules: no wrappers, which train one by one."""

LAYOUTS = ["adamw", "adamuon", "soap", "prodigy", "scion"]
"""One of each kind: flat, stacked, single, the whole model, three routes."""


def one_of_each_kind_first(names: Iterable[str], *others: Any) -> list[Any]:
    """Parameters (name, *others) of a test over optimizers, slow but for one optimizer of each layout."""
    return quick_for(LAYOUTS, names, *others)
