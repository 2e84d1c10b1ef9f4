"""An optimizer's parameter groups: vectors without decay, and factors on lr and decay by the names of parameters."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from bench.config.optimizer import GroupConfig, OptimizerConfig
from bench.config.targets import class_default
from bench.errors import ConfigError

NUM_NEAREST = 3


def find_group(groups: Sequence[GroupConfig], name: str) -> int:
    """The position of the first pattern that matches a parameter's name, the number of groups where none does."""
    return next((position for position, group in enumerate(groups) if fnmatchcase(name, group.match)), len(groups))


def check_groups(groups: Sequence[GroupConfig], names: Iterable[str]) -> None:
    """Refuse a pattern that changes nothing. Raises ConfigError."""
    known = list(names)
    taken = {find_group(groups, name) for name in known}
    for position, group in enumerate(groups):
        if position in taken:
            continue
        text = "matches only what patterns before it match, and the first match wins"
        if not any(fnmatchcase(name, group.match) for name in known):
            near = get_close_matches(group.match.replace("*", ""), known, NUM_NEAREST, cutoff=0.0)
            text = f"matches no parameter; the nearest are {', '.join(near)}"
        raise ConfigError(f"optimizer.groups.{position}.match", group.match, text)


def make_param_groups(
    config: OptimizerConfig,
    optimizer_class: type,
    groups: Sequence[GroupConfig],
    params: Mapping[str, nn.Parameter],
    labels: Mapping[str, str],
) -> list[dict[str, object]]:
    """The groups of an optimizer's parameters, each with those options in which it differs from the optimizer's own.

    Args:
        config: the optimizer.
        optimizer_class: its class.
        groups: the factors.
        params: its parameters by name.
        labels: of the parameters by name.

    Raises:
        ConfigError: a factor on what the class does not have.
    """
    names = ("lr", "weight_decay")
    own = {name: config.hyperparameters.get(name, class_default(optimizer_class, name)) for name in names}
    decays = "weight_decay" in config.hyperparameters or bool(own["weight_decay"])
    members: dict[tuple[bool, int], list[nn.Parameter]] = {}
    for name, param in params.items():
        is_kept = decays and labels[name] == "vector"
        members.setdefault((is_kept, find_group(groups, name)), []).append(param)
    made = []
    for (is_kept, position), own_params in sorted(members.items(), key=lambda item: item[0]):
        options = _multiply(own, groups[position], position, optimizer_class) if position < len(groups) else {}
        made.append({"params": own_params, **options, **({"weight_decay": 0.0} if is_kept else {})})
    return made


def _multiply(own: Mapping[str, Any], group: GroupConfig, position: int, optimizer_class: type) -> dict[str, float]:
    options = {}
    for name, factor in group.model_dump(include=set(own), exclude_unset=True).items():
        if not isinstance(own[name], int | float):
            text = f"{optimizer_class.__name__} has no {name} to multiply"
            raise ConfigError(f"optimizer.groups.{position}.{name}", factor, text)
        options[name] = own[name] * factor
    return options
