"""Where a key that does not exist may belong."""

from collections.abc import Iterator, Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from bench.cli.compose import compose
from bench.cli.folders import GROUPS, own_dirs
from bench.cli.help import group_members
from bench.config.keys import has_key
from bench.config.optimizer import OptimizerConfig
from bench.config.targets import accepts, locate, signature_text
from bench.config.validation import known_keys
from bench.errors import ConfigError, UnknownKeyError, nearest

HOMES = ("optimizer", "task", "schedule", "average", "tracker")  # where a lost key is looked for, in this order
KINDS = ("schedule", "average", "sweep", "tracker")  # groups whose members have keys that others lack
AXES = "sweep.axes."


def explain_missing_key(key: str, args: Sequence[str]) -> ConfigError:
    """Name the place where the key exists, or the nearest one; of an optimizer also its signature."""
    given = {name.lstrip("+~"): value for name, _, value in (arg.partition("=") for arg in args)}
    value = given.get(key, "")
    config = _compose_groups(args)
    if (axis := key.removeprefix(AXES)) != key:
        if axis in given or _can_sweep(config, axis):
            return ConfigError.of_line(f"{key}: this sweep has no such axis; write +{key}=... to add it")
        return ConfigError.of_line(f"{AXES}{explain_missing_key(axis, [*args, f'{axis}={value}'])}")
    path, _, last = key.rpartition(".")
    if path == "optimizer" and (optimizer_class := _find_class(config)):
        if accepts(optimizer_class, last):
            return ConfigError(
                key, value, f"not in its yaml, but {signature_text(optimizer_class)} takes it: write +{key}={value}"
            )
        names = [*map(str, config.optimizer), *known_keys(OptimizerConfig)]
        return UnknownKeyError(key, value, names, signature_text(optimizer_class))
    known = OmegaConf.select(config, path) if path else config
    names = [str(name) for name in known] if isinstance(known, DictConfig) else []
    if last not in names and (better := next(_better_places(key, value, config, args), None)):
        return ConfigError(key, value, f"no such key, did you mean {better}?")
    return UnknownKeyError(key, value, names)


def _compose_groups(args: Sequence[str]) -> DictConfig:
    """The configuration that the group choices among `args` make, without any other override."""
    choices = [arg.partition("=") for arg in args if arg.partition("=")[0].lstrip("+") in GROUPS]
    try:
        return compose([f"{name}={value.split(',')[0]}" for name, _, value in choices], own_dirs(args))
    except HydraException:
        return compose([])


def _better_places(key: str, value: str, config: DictConfig, args: Sequence[str]) -> Iterator[str]:
    """Overrides that may have been meant: the same last part elsewhere, a member of a group, or nearly the same."""
    keys = sorted((name for home in HOMES for name in _dotted_keys(config.get(home), home)), key=_depth)
    last = key.rpartition(".")[2]
    first, dot, rest = key.partition(".")
    for member, file in group_members(first, args).items() if dot and first in KINDS else ():
        if OmegaConf.select(OmegaConf.load(file), rest) is not None:
            yield f"{first}={member} {key}={value}"
    yield from (f"{name}={value}" for name in keys if name.rpartition(".")[2] == last)
    for group in GROUPS:
        if first in group_members(group, args):
            yield f"{group}={first}" + (f" {group}.{rest}={value}" if dot else "")
    if not nearest(key, map(str, config)):
        near = nearest(last, (name.rpartition(".")[2] for name in keys))
        yield from (f"{name}={value}" for name in keys if near and name.rpartition(".")[2] == near)


def _can_sweep(config: DictConfig, axis: str) -> bool:
    mapping = OmegaConf.to_container(config)
    assert isinstance(mapping, dict)
    try:
        return has_key({str(key): value for key, value in mapping.items()}, axis)
    except ConfigError:  # the class is a mistake of its own, told once this one is mended
        return True


def _depth(key: str) -> int:
    return key.count(".")


def _dotted_keys(node: Any, path: str) -> Iterator[str]:
    if not isinstance(node, DictConfig):
        yield path
        return
    for name in node:
        if not OmegaConf.is_missing(node, name):
            yield from _dotted_keys(node.get(name), f"{path}.{name!s}")


def _find_class(config: DictConfig) -> Any:
    try:
        return locate(str(OmegaConf.select(config, "optimizer._target_")), "optimizer._target_")
    except ConfigError:  # the class is a mistake of its own, told once this one is mended
        return None
