"""The errors that a user reads as one line, and the words that lines are made of."""

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

Words = ParamSpec("Words")
MAX_TEXT = 160
MAX_LINE = 1000
MISTYPED, ALIKE = 0.75, 0.5  # how near a name is to what it surely means, and to what it may mean


class ConfigError(ValueError):
    """A key of the configuration has a value that is not allowed. Its text is one line: key, value, what is allowed."""

    def __init__(self, key: str, value: Any, allowed: str) -> None:
        super().__init__(one_line(f"{shorten(key, 160)}={shorten(value)}: {allowed}"))

    @classmethod
    def of_line(cls, text: str) -> "ConfigError":
        """The error whose text is known already."""
        error = cls.__new__(cls)
        error.args = (one_line(text),)
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        return ConfigError.of_line, (str(self),)


class UnknownKeyError(ConfigError):
    """A key that does not exist where it stands. Its text names the nearest one that does."""

    def __init__(self, key: str, value: Any, known: Iterable[str], owner: str = "") -> None:
        names = sorted(known)
        hint = did_you_mean(key.rpartition(".")[2], names)
        choices = f"; allowed: {', '.join(names)}" if names else ""
        allowed = f"{owner} has no such option{hint}" if owner else f"no such key{hint}{choices}"
        super().__init__(key, value, allowed)


class OptionError(ValueError):
    """An option of an optimizer or a task has a value that is not allowed.

    Attributes:
        name: of the option, as its class knows it.
        value: that it was given.
        allowed: what is allowed, as in `expected a number in [0, 1)`.
    """

    def __init__(self, name: str, value: object, allowed: str) -> None:
        self.name, self.value, self.allowed = name, value, allowed
        super().__init__(f"{name}={_quoted(value)}: {allowed}")

    def __reduce__(self) -> tuple[Any, ...]:
        return OptionError, (self.name, self.value, self.allowed)


class StoreError(Exception):
    """The results folder cannot be used. Its text is one line for the user."""


class JobFailedError(Exception):
    """A trial failed by a fault of the code. Its text is one line for the user."""


def tell_error(text: str, code: int) -> int:
    """Print a mistake or a failure as the one line that the user sees on stderr, and return the exit code."""
    print(f"error: {one_line(text)}", file=sys.stderr)
    return code


def stoppable(command: Callable[Words, int]) -> Callable[Words, int]:
    """A command that Ctrl-C ends at once, with one line and exit code 130."""

    @wraps(command)
    def run(*args: Words.args, **options: Words.kwargs) -> int:
        try:
            return command(*args, **options)
        except KeyboardInterrupt:
            return tell_error("stopped at once", 130)

    return run


def how_to_install(extra: str) -> str:
    """The command that brings an optional extra: into a clone, as the README does, or beside an installed package."""
    home = Path(__file__).resolve().parents[1]
    is_clone = (home / "pyproject.toml").is_file()
    return (
        f"in {home}, pip install -c constraints.txt -e '.[{extra}]'" if is_clone else f"pip install 'fairstep[{extra}]'"
    )


def nearest(name: str, known: Iterable[str], cutoff: float = MISTYPED) -> str:
    """The known name that is nearest to `name`, "" where none is as near as `cutoff`, which lies in [0, 1]."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=cutoff)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` where a known name is near, else nothing."""
    near = nearest(name, known, ALIKE)
    return f", did you mean '{near}'?" if near else ""


def plural(noun: str) -> str:
    """seeds, searches."""
    return f"{noun}es" if noun.endswith("ch") else f"{noun}s"


def count_of(number: float, noun: str) -> str:
    """1 seed, 3 searches."""
    return f"{number:g} {noun if number == 1 else plural(noun)}"


def shorten(value: Any, width: int = 80) -> str:
    """`repr(value)` on one line, at most `width` characters."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # a number of more than 4,300 digits; lists in lists without end
        text = f"a very large {type(value).__name__}"
    text = text[: width + 1]
    text = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return text if len(text) <= width else text[: width - 1] + "…"


def _quoted(value: object) -> str:
    """`value` as it is written in Python, on one line."""
    text = shorten(value)
    return f"'{text}'" if isinstance(value, str) else text


def one_line(text: str) -> str:
    """The text as a single line that a terminal can show: of bounded length, without control characters."""
    return shorten(" ".join(text[: 4 * MAX_LINE].split()), MAX_LINE)


def clean_text(value: object) -> str:
    """A printable line of bounded length ("" where `value` is no string), safe for a label, an SVG, a text file."""
    if not isinstance(value, str):
        return ""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value[: MAX_TEXT + 1])
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"
