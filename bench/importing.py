"""Importing what a `_target_` names, and checking options against its signature before anything is built."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from hydra.utils import get_object

from bench.errors import ConfigError, UnknownKeyError


def locate(path: str, key: str) -> Any:
    """The object at a dotted import path. Raises ConfigError, naming `key`, if there is none."""
    try:
        return get_object(path)
    except Exception as error:  # an import runs foreign code: whatever it raises is told in one line
        cause = error.__cause__ or error
        raise ConfigError(key, path, f"cannot be imported: {type(cause).__name__}: {cause}") from error


def bind_options(function: Callable[..., Any], options: Mapping[str, Any], path: str, num_positional: int = 1) -> None:
    """Check that `function` takes `options` by name beside its first `num_positional` arguments.

    Raises:
        UnknownKeyError: an option that it does not have.
        ConfigError: an option that it needs and that is missing.
    """
    parameters = list(inspect.signature(function).parameters.values())[num_positional:]
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = {p.name: p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    for name, value in options.items():
        if name not in named and not open_ended:
            raise UnknownKeyError(f"{path}.{name}", value, named, owner=signature_text(function))
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in options:
            raise ConfigError(f"{path}.{name}", None, f"{signature_text(function)} needs this option")


def signature_text(function: Callable[..., Any]) -> str:
    """`Name(params, lr=0.001, ...)`: the call's signature on one line, without its annotations."""
    parameters = [p.replace(annotation=p.empty) for p in inspect.signature(function).parameters.values()]
    return f"{function.__name__}{inspect.Signature(parameters)}"


def accepts(function: Callable[..., Any], name: str) -> bool:
    """Whether the function has a parameter of this name."""
    return name in inspect.signature(function).parameters
