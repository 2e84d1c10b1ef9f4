"""Ranges for a search, as wide for every optimizer, around its own natural scale: what `adamw.yaml` calls fair."""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from bench.config.targets import locate
from bench.errors import ConfigError

Space = dict[str, dict[str, float | str]]  # by hyperparameter its range, as a yaml writes it
DECADES = {"lr": 3.0, "eps": 8.0}  # around the optimizer's own default
WEIGHT_DECAY: dict[str, float | str] = {"low": 1e-3, "high": 1.0, "scale": "log"}
FIRST_MOMENT: dict[str, float | str] = {"low": 0.8, "high": 0.99, "scale": "linear"}
SECOND_MOMENT: dict[str, float | str] = {"low": 0.9, "high": 0.999, "scale": "linear"}


def section_of_class(path: str) -> dict[str, object]:
    """The configuration of an optimizer that has no yaml: its class with its own defaults, and a search space.

    Raises:
        ConfigError: the class cannot be imported, or has no default for its learning rate.
    """
    parameters = inspect.signature(locate(path, "optimizer")).parameters
    known = {name: parameter.default for name, parameter in parameters.items() if name in _RANGES}
    section: dict[str, object] = {"name": path.rpartition(".")[2].lower(), "_target_": path}
    section |= {name: list(value) if isinstance(value, tuple) else value for name, value in known.items()
                if _is_number(value) or isinstance(value, tuple)}  # fmt: skip
    if "lr" not in section:
        raise ConfigError("optimizer", path, "has no default lr: write a yaml for it that gives one")
    return {**section, "search_space": search_space_of(section)}


def search_space_of(section: Mapping[str, Any]) -> Space:
    """Equally wide ranges for those hyperparameters of an optimizer's section that are commonly tuned."""
    spaces = [_RANGES[name](value) for name, value in section.items() if name in _RANGES]
    return {key: mapping for space in spaces for key, mapping in space.items()}


def width_of(mapping: Mapping[str, Any]) -> float:
    """Decades of a range on a log scale, the difference of its ends on a linear one, a choice's number of values."""
    if values := mapping.get("values"):
        return len(values)
    low, high = mapping["low"], mapping["high"]
    return math.log10(high / low) if mapping.get("scale") == "log" else high - low


def _around(name: str, value: Any) -> Space:
    if not _is_number(value) or value <= 0:
        return {}
    reach = 10 ** (DECADES[name] / 2)
    return {name: {"low": float(f"{value / reach:.3g}"), "high": float(f"{value * reach:.3g}"), "scale": "log"}}


def _betas(value: Any) -> Space:
    if not isinstance(value, list | tuple) or len(value) < 2:
        return {}
    return {"betas.0": FIRST_MOMENT, "betas.1": SECOND_MOMENT}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_RANGES: Mapping[str, Callable[[Any], Space]] = {
    "lr": partial(_around, "lr"),
    "weight_decay": lambda value: {"weight_decay": WEIGHT_DECAY},
    "betas": _betas,
    "momentum": lambda value: {"momentum": FIRST_MOMENT},
    "eps": partial(_around, "eps"),
}
