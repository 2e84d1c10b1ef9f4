"""Importing what a `_target_` names, and checking options against its signature before anything is built."""

import importlib
import inspect
import math
import re
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

from bench.errors import ConfigError, UnknownKeyError, how_to_install


def locate(path: str, key: str) -> Any:
    """The class or function at a dotted import path. Raises ConfigError, naming `key`, if there is none."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # an import runs foreign code: whatever it raises is told in one line
        text = f"cannot be imported: {type(error).__name__}: {error}{_how_to_install(error)}"
        raise ConfigError(key, path, text) from error
    try:
        inspect.signature(found)
    except (TypeError, ValueError) as error:
        raise ConfigError(key, path, "expected a class or a function with a signature") from error
    return found


def _how_to_install(error: BaseException) -> str:
    """The optional extra that brings a missing package, where our own metadata name one."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    package = error.name.partition(".")[0].replace("_", "-")
    try:
        requirements = requires("fairstep") or []
    except PackageNotFoundError:
        return ""
    text = "\n".join(requirements).replace("_", "-")
    extra = re.search(rf"^{re.escape(package)}\b.*extra == ['\"](?!dev)(.+?)['\"]", text, re.MULTILINE)
    return f"; {how_to_install(extra[1])}" if extra else ""


def bind_options(function: Callable[..., Any], options: Mapping[str, Any], path: str, num_positional: int = 1) -> None:
    """Check that `function` takes `options` by name beside its first `num_positional` arguments.

    Raises:
        UnknownKeyError: an option that it does not have.
        ConfigError: an option that it needs and that is missing, true, false or an infinity in place of a number.
    """
    named = _named_parameters(function)
    for name in list(named)[:num_positional]:
        del named[name]
    for name, value in options.items():
        if name not in named:
            raise UnknownKeyError(f"{path}.{name}", value, named, owner=signature_text(function))
        if _is_no_number(value) and type(default := named[name].default) in (int, float) and value != default:
            raise ConfigError(f"{path}.{name}", value, f"expected a finite number; {signature_text(function)}")
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in options:
            raise ConfigError(f"{path}.{name}", None, f"{signature_text(function)} needs this option")


def _is_no_number(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value))


def _named_parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Parameters that can be given by name; those of the base class too where a class hands `**kwargs` on to it."""
    named: dict[str, inspect.Parameter] = {}
    for level in inspect.getmro(function) if inspect.isclass(function) else (function,):
        parameters = inspect.signature(level).parameters.values()
        own = {p.name: p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        inherited = {name: p for name, p in own.items() if name not in named and p.default is not p.empty}
        named = {**named, **inherited} if named else own
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return named


def signature_text(function: Callable[..., Any]) -> str:
    """`Name(params, lr=0.001, ...)`: the call's signature on one line, without its annotations."""
    parameters = [p.replace(annotation=p.empty) for p in inspect.signature(function).parameters.values()]
    return f"{function.__name__}{inspect.Signature(parameters)}"


def class_default(function: Callable[..., Any], name: str) -> Any:
    """The default of the parameter of this name, None where there is no such parameter or no default."""
    parameter = _named_parameters(function).get(name)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def accepts(function: Callable[..., Any], name: str) -> bool:
    """Whether the function has a parameter of this name."""
    return name in _named_parameters(function)
