"""Mistakes on the command line and in yaml files, told in one line."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from traceback import walk_tb

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from bench.cli.arguments import PACKAGES
from bench.cli.folders import GROUPS, config_dirs, own_dirs
from bench.cli.help import COMMANDS, group_members
from bench.cli.hints import explain_missing_key
from bench.config.folders import find_conf_dir
from bench.errors import ConfigError, StoreError, did_you_mean, shorten

NOT_THERE = re.compile(r"Could not override '([^']+)'")
AMBIGUOUS = re.compile(r"Ambiguous value for argument '(.+?)'$", re.MULTILINE)


def check_choices(args: Sequence[str]) -> None:
    """Refuse what Hydra would take: a member of a group outside of its folder, a new key at the top.

    Raises:
        ConfigError: in one line, for a new key with the place where it may belong.
    """
    for group, value in _choices(args):
        if ".." in value or value.startswith("/"):
            raise ConfigError(group, value, f"expected one of {', '.join(group_members(group, args))}")
    known = {"hydra", *GROUPS, *OmegaConf.load(find_conf_dir() / "config.yaml")}
    for key, equals, _ in (arg.partition("=") for arg in args if arg.startswith("+")):
        if equals and re.fullmatch(r"\++\w+", key) and key.lstrip("+") not in known:
            raise explain_missing_key(key.lstrip("+"), args)


def _choices(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every group among `args` with what is chosen from it."""
    for key, equals, value in (arg.partition("=") for arg in args):
        group = key.lstrip("+~").partition("@")[0]
        if equals and group in GROUPS:
            yield group, value


def failed_to_compose(error: Exception) -> bool:
    """Whether it was raised while Hydra read the command line and the yaml files, before any code of ours."""
    return any(frame.f_code.co_name == "load_configuration" for frame, _ in walk_tb(error.__traceback__))


def is_mistake(error: Exception) -> bool:
    """Whether the user can mend it, on the command line, in a yaml file or on the disk: `explain` says how."""
    known = ConfigError | StoreError | HydraException | OmegaConfBaseException
    return isinstance(error, known) or failed_to_compose(error)


def explain(error: Exception, args: Sequence[str], *, takes_several: bool = False) -> str:
    """One line for a mistake in the overrides `args` or in a yaml file, or for a folder that cannot be used.

    Args:
        error: the mistake.
        args: the overrides.
        takes_several: whether the command trains a job for each of several values with -m.
    """
    if isinstance(error, ConfigError | StoreError):
        return f"{error}{_where_own_modules_are(error.__cause__, args)}"
    if isinstance(error, MissingConfigException) and error.options is not None:
        return _explain_missing_member(str(error.missing_cfg_file), error.options, args)
    if isinstance(error, MissingMandatoryValue | InterpolationToMissingValueError):
        return _explain_missing_value(error)
    text = str(error)
    if missing := NOT_THERE.search(text):
        return str(explain_missing_key(missing.group(1), args))
    if ambiguous := AMBIGUOUS.search(text):
        key, _, value = ambiguous.group(1).lstrip("+").partition("=")
        return _explain_several_values(key, value, takes_several)
    if isinstance(error, OverrideParseException):
        return _explain_override(error.override)
    if not isinstance(error, HydraException | OmegaConfBaseException):
        text = _explain_unreadable(error, args)
    return text.split("\n\n")[0]


def _explain_missing_member(file: str, options: Sequence[str], args: Sequence[str]) -> str:
    """A member that a group does not have, or that the user's own conf/ has, which was not given."""
    group, _, name = file.rpartition("/")
    own = Path("conf", group, f"{name}.yaml")
    if own.is_file() and Path("conf") not in config_dirs(args):
        return f"{group}={shorten(name)}: {own} is there, but its folder is not given: add --config-dir conf"
    if group == "optimizer" and "." in name.removesuffix(".yaml"):
        return _explain_class(name, args)
    hint = did_you_mean(name, options) + ("" if own_dirs(args) else "; for one of your own add --config-dir DIR")
    return f"{group}={shorten(name)}: no such {group}{hint}; allowed: {', '.join(options)}"


def _explain_class(path: str, args: Sequence[str]) -> str:
    """The import path of a class where the name of a yaml is expected."""
    line = re.compile(rf"^_target_: {re.escape(path)}\s*$", re.MULTILINE)
    files = group_members("optimizer", args).items()
    yamls = [f"optimizer={name}" for name, file in files if line.search(file.read_text("utf-8", errors="replace"))]
    such_as = f" with this class, {' or '.join(yamls)}," if yamls else ""
    text = f"expected the name of a yaml{such_as} or optimizer=custom optimizer._target_={path}"
    return str(ConfigError("optimizer", path, text))


def _where_own_modules_are(cause: BaseException | None, args: Sequence[str]) -> str:
    """Where a module of the user's own is looked for, if it is one that cannot be imported, and where it lies."""
    if not isinstance(cause, ModuleNotFoundError) or (cause.name or "").partition(".")[0] not in PACKAGES:
        return ""
    file = Path(*str(cause.name).split(".")).with_suffix(".py")
    homes = [folder.resolve().parent for folder in own_dirs(args)]
    found = "".join(f", and {file} lies in {home}: cd there first" for home in homes if (home / file).is_file())
    return f"; modules of your own are looked for in the current folder only{found}"


def _explain_missing_value(error: OmegaConfBaseException) -> str:
    """A key that stands as ??? in the yaml."""
    key = str(error.full_key)
    if key in ("optimizer._target_", "optimizer.name"):
        return "optimizer._target_=???: expected a class, as in optimizer._target_=pytorch_optimizer.Lamb"
    return str(ConfigError(key, "???", "this key needs a value"))


def _explain_several_values(key: str, value: str, takes_several: bool) -> str:
    first = f"add -m to train a job for each value of {key}" if takes_several else "expected one"
    if key in GROUPS:
        return f"{key}={shorten(value)}: several values: {first}"
    if key == "seed":
        axis = f"+sweep.axes.seed=[{shorten(value)}]"
        return f"{key}={shorten(value)}: several values: {first}, or write '{axis}' for a sweep"
    return f"{key}={shorten(value)}: several values: {first}, or write {key}=[{shorten(value)}] for a list"


def _explain_override(override: str | None) -> str:
    """An argument that Hydra's grammar does not take."""
    key, equals, value = str(override).partition("=")
    if not equals:
        near = "" if key in COMMANDS else did_you_mean(key, COMMANDS)
        commands = f", or as the first word one of {', '.join(COMMANDS)}" if near or key in COMMANDS else ""
        return f"{shorten(key)}: expected KEY=VALUE{commands}{near}"
    return str(ConfigError(key, value, f"cannot be read; quote the value: '{key}=\"{shorten(value)}\"'"))


def _explain_unreadable(error: Exception, args: Sequence[str]) -> str:
    """Name the argument or the file that could not even be parsed."""
    reason = "nested too deeply" if isinstance(error, RecursionError) else f"{type(error).__name__}: {error}"
    if (unparsed := next((arg for arg in args if not _parses(arg)), None)) is not None:
        key, _, value = unparsed.partition("=")
        return str(ConfigError(key, value, f"cannot be read: {reason}"))
    for group, name in ((group, name) for group, value in _choices(args) for name in value.split(",")):
        members = group_members(group, args)
        if name not in members:
            return str(ConfigError(group, name, f"expected one of {', '.join(members)}"))
        if not _is_readable(members[name]):
            return f"{members[name]} cannot be read: {reason}"
    return f"the configuration cannot be read: {reason}"


def _parses(arg: str) -> bool:
    """Whether Hydra's parser gets through an argument, or refuses it in its own words, as it does its options."""
    try:
        OverridesParser.create().parse_override(arg)
    except HydraException:
        return True
    except Exception:
        return False
    return True


def _is_readable(file: Path) -> bool:
    try:
        OmegaConf.load(file)
    except Exception:
        return False
    return True
