"""The words of a command line before Hydra sees them: its options in any order, and files that stand in the way."""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser

import bench
from bench.errors import ConfigError, nearest

log = logging.getLogger(__name__)
PACKAGES = ("bench", "optimizers", "tasks")
UNKNOWN = "unrecognized arguments: "  # how argparse begins


def options_first(args: Sequence[str]) -> list[str]:
    """The same words with Hydra's options before the overrides, the only order that its parser takes.

    Raises:
        ConfigError: an option that does not exist, or one without its value.
    """
    parser = get_args_parser()
    known = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]

    def refuse(message: str) -> NoReturn:
        if not message.startswith(UNKNOWN):
            raise ConfigError.of_line(message)
        option = message.removeprefix(UNKNOWN).split()[0]
        key, _, value = option.lstrip("-").partition("=")
        near = nearest(option, known)
        hint = f", did you mean {near}?" if near else ""
        raise ConfigError.of_line(
            f"{option}: no such option{hint}; a key is set as {key}={value or 'VALUE'}, no dashes"
        )

    parser.error = refuse  # type: ignore[method-assign]
    parsed = parser.parse_intermixed_args(list(args))
    if sum(map(bool, (parsed.run, parsed.multirun, parsed.cfg, parsed.info))) > 1:
        raise ConfigError.of_line("expected only one of --run, --multirun, --cfg and --info")
    options = list(args)
    for override in parsed.overrides:
        options.remove(override)
    return [*options, *parsed.overrides]


def admit_own_files(folder: Path) -> None:
    """Let the user's own `./optimizers` and `./tasks` be imported, and say which of our files they replace.

    Raises:
        ConfigError: `optimizers.py`, `tasks/__init__.py` or the like, which would hide a whole package of ours.
    """
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    home = Path(bench.__file__).resolve().parents[1]
    for package in PACKAGES if folder.resolve() != home else ():
        for file in (Path(f"{package}.py"), Path(package, "__init__.py")):
            if (folder / file).is_file():
                text = "rename it; optimizers and tasks of your own are files in optimizers/ and tasks/"
                raise ConfigError.of_line(f"{file} hides fairstep's own `{package}`: {text}, without an __init__.py")
        for path in sorted((folder / package).glob("*.py")):
            if (home / package / path.name).is_file():
                log.warning("%s/%s is used in place of fairstep's own", package, path.name)


def check_words(args: Sequence[str], flags: Sequence[str] = ()) -> None:
    """Refuse every word that is no KEY=VALUE, no `--config-dir DIR` and none of `flags`. Raises ConfigError."""
    words = iter(args)
    for word in words:
        if word in ("--config-dir", "-cd"):
            next(words, None)
        elif word not in flags and ("=" not in word or word.startswith("-")) and not word.startswith("--config-dir="):
            known = ", ".join(("KEY=VALUE", "--config-dir DIR", *flags))
            raise ConfigError.of_line(f"{word}: expected {known}")


def check_spelling(given: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Refuse what is nearly an argument of the command. Whatever else there is, the composed configuration refuses.

    Raises:
        ConfigError: with the argument that is meant.
    """
    for key, value in given.items():
        first = key.lstrip("+~").partition(".")[0]
        if first not in arguments and (near := nearest(first, arguments)):
            raise ConfigError(key, value, f"no such key, did you mean {key.replace(first, near, 1)}={value}?")
