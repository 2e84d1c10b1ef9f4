"""Dotted keys: reading and setting single values in a resolved configuration."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, NoReturn

from bench.config.targets import accepts, class_default, locate, signature_text
from bench.errors import ConfigError, UnknownKeyError


def with_cell(mapping: Mapping[str, Any], cell: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration with the values of a cell in their places. Raises ConfigError for a key without one."""
    changed = deepcopy(dict(mapping))
    for key, value in cell.items():
        try:
            node, name = _parent(changed, key)
        except KeyError as error:
            raise ConfigError(key, value, "there is nothing by this name to sweep") from error
        node[name] = value
    return changed


def has_key(mapping: Mapping[str, Any], key: str) -> bool:
    """Whether a configuration has this key, or its optimizer's class an option by this name."""
    try:
        node, last = _parent(mapping, key)
    except KeyError:
        return False
    return isinstance(node, list) or last in node or _is_option(mapping, key)


def _is_option(mapping: Mapping[str, Any], key: str) -> bool:
    owner, _, name = key.partition(".")
    return owner == "optimizer" and (name == "groups" or ("." not in name and accepts(_optimizer_class(mapping), name)))


def refuse_axis(mapping: Mapping[str, Any], key: str) -> NoReturn:
    """Raise UnknownKeyError for an axis that a configuration does not have, with the keys beside it."""
    try:
        known, _ = _parent(mapping, key)
    except KeyError:
        known = {}
    owner = signature_text(_optimizer_class(mapping)) if key.startswith("optimizer.") else ""
    raise UnknownKeyError(f"sweep.axes.{key}", "…", known, owner)


def default_of(mapping: Mapping[str, Any], name: str) -> Any:
    """What the optimizer's yaml says for a hyperparameter, or where it says nothing, what its class does.

    Raises:
        ConfigError: neither says anything.
    """
    key = f"optimizer.{name}"
    try:
        node, last = _parent(mapping, key)
        if isinstance(node, list) or last in node:
            return node[last]
    except KeyError:
        pass
    default = class_default(_optimizer_class(mapping), name)
    if default is None:
        raise ConfigError(
            f"optimizer.search_space.{name}", None, "there is nothing by this name to sweep, or it has no default"
        )
    return default


def _parent(mapping: Any, key: str) -> tuple[Any, Any]:
    """The container that holds a dotted key, and the key's last part: a name, or a position in a list.

    Raises:
        KeyError: there is no such container, or no such position in it.
    """
    *path, last = key.split(".")
    node = mapping
    for part in path:
        node = node[_position(node, part)]
    return node, _position(node, last)


def _position(node: Any, part: str) -> Any:
    if isinstance(node, Mapping):
        return part
    if isinstance(node, list) and part in map(str, range(len(node))):
        return int(part)
    raise KeyError(part)


def _optimizer_class(mapping: Mapping[str, Any]) -> Any:
    return locate(str(mapping["optimizer"].get("_target_")), "optimizer._target_")
