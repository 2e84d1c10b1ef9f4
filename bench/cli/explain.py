"""The command line around Hydra: help that lists what there is, and mistakes told in one line."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from traceback import walk_tb
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.cli.compose import GROUPS, _compose_groups, config_dirs, find_conf_dir
from bench.config.targets import locate, signature_text
from bench.errors import ConfigError, UnknownKeyError, did_you_mean, shorten

NOT_THERE = re.compile(r"Could not override '([^']+)'")

USAGE = """\
Does this optimizer really beat a well-tuned AdamW?

usage: python -m bench [KEY=VALUE ...]                      train one trial, or the grid of a sweep
       python -m bench -m optimizer=adamw,adamuon ...       multiply jobs (Hydra's multirun)
       python -m bench KEY=VALUE ... --cfg job              show the composed configuration
       python -m bench.report results                       tables, plots and a page from the runs
       python -m bench.check optimizer=NAME                 put an optimizer through the conformance checks

options of Hydra: --multirun -m, --cfg, --info, --config-dir DIR (your own conf/), --hydra-help for all of them
"""


def help_text(args: Sequence[str]) -> str:
    """Usage, then every group with a line on each of its members, then the other keys."""
    parts = [USAGE]
    for group in GROUPS:
        if files := _members(group, args):
            width = max(map(len, files))
            lines = [f"  {name:<{width}}  {_first_comment(file)}" for name, file in files.items()]
            parts.append(f"{group}=\n" + "\n".join(lines) + "\n")
    keys = [
        line for line in (find_conf_dir() / "config.yaml").read_text().splitlines() if re.match(r"[a-z_]+: .*#", line)
    ]
    parts.append("other keys, with their defaults\n" + "\n".join(f"  {key}" for key in keys))
    return "\n".join(parts)


def _first_comment(file: Path) -> str:
    lines = (
        line.removeprefix("#").strip()
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.startswith("#")
    )
    return next((line for line in lines if not line.startswith("@package")), "")


def check_choices(args: Sequence[str]) -> None:
    """Refuse a member of a group that leads out of its folder, where Hydra would follow. Raises ConfigError."""
    for group, value in _choices(args):
        if ".." in value or value.startswith("/"):
            raise ConfigError(group, value, f"expected one of {', '.join(_members(group, args))}")


def _choices(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every group among `args` with what is chosen from it."""
    for key, equals, value in (arg.partition("=") for arg in args):
        group = key.lstrip("+~").partition("@")[0]
        if equals and group in GROUPS:
            yield group, value


def _members(group: str, args: Sequence[str]) -> dict[str, Path]:
    """The files of a group by name, the user's own before shipped ones."""
    files = {file.stem: file for folder in reversed(config_dirs(args)) for file in (folder / group).glob("*.yaml")}
    return dict(sorted(files.items()))


def failed_to_compose(error: Exception) -> bool:
    """Whether it was raised while Hydra read the command line and the yaml files, before any code of ours."""
    return any(frame.f_code.co_name == "load_configuration" for frame, _ in walk_tb(error.__traceback__))


def explain(error: Exception, args: Sequence[str]) -> str:
    """One line for a mistake in the overrides `args` or in a yaml file."""
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        hint = did_you_mean(name, error.options)
        return f"{group}={shorten(name)}: no such {group}{hint}; allowed: {', '.join(error.options)}"
    text = str(error)
    if missing := NOT_THERE.search(text):
        return str(_explain_missing_key(missing.group(1), args))
    if not isinstance(error, HydraException | OmegaConfBaseException):
        text = _explain_unreadable(error, args)
    return text.split("\n\n")[0]


def _explain_unreadable(error: Exception, args: Sequence[str]) -> str:
    """Name the argument or the file that could not even be parsed."""
    reason = "nested too deeply" if isinstance(error, RecursionError) else f"{type(error).__name__}: {error}"
    parser = OverridesParser.create()
    for key, equals, value in (arg.partition("=") for arg in args):
        try:
            parser.parse_override(f"{key}{equals}{value}")
        except HydraException:  # an option of Hydra's, not an override
            continue
        except Exception:
            return str(ConfigError(key, value, f"cannot be read: {reason}"))
    for group, value in _choices(args):
        members = _members(group, args)
        for name in value.split(","):
            if name not in members:
                return str(ConfigError(group, name, f"expected one of {', '.join(members)}"))
            if not _is_readable(members[name]):
                return f"{members[name]} cannot be read: {reason}"
    return f"the configuration cannot be read: {reason}"


def _is_readable(file: Path) -> bool:
    try:
        OmegaConf.load(file)
    except Exception:
        return False
    return True


def _explain_missing_key(key: str, args: Sequence[str]) -> ConfigError:
    """Name the nearest key, or the optimizer's signature where it has no such option."""
    if key.startswith("sweep.axes."):
        return ConfigError.of_line(f"{key}: this sweep has no such axis; write +{key}=... to add it")
    given = {name.lstrip("+~"): value for name, _, value in (arg.partition("=") for arg in args)}
    node: Any = _compose_groups(args)
    optimizer = node.get("optimizer") if isinstance(node, DictConfig) else None
    path, _, _ = key.rpartition(".")
    known = OmegaConf.select(node, path) if path else node
    names = [str(name) for name in known] if isinstance(known, DictConfig) else []
    owner = _signature_of(optimizer) if path == "optimizer" and isinstance(optimizer, DictConfig) else ""
    return UnknownKeyError(key, given.get(key, ""), names, owner)


def _signature_of(optimizer: DictConfig) -> str:
    try:
        return signature_text(locate(str(optimizer.get("_target_")), "optimizer._target_"))
    except ConfigError:  # the class is a mistake of its own, told once this one is mended
        return ""
