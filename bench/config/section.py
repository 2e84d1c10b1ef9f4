"""Reading the configuration: plain values of bounded size, every key taken once, checked, and none left over."""

import math
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from bench.errors import ConfigError, UnknownKeyError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
MAX_DEPTH = 16
MAX_KEY, MAX_TEXT = 200, 10_000
MAX_NUMBER = 2**63
MAX_FLOAT = sys.float_info.max
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def check_plain(mapping: Mapping[Any, Any], max_values: int) -> None:
    """Refuse what no configuration needs and what the code behind this check could trip over.

    Args:
        mapping: keys that are text; text, booleans, numbers of 64 bits, null, and lists and mappings of them.
        max_values: how many values it may hold in all.

    Raises:
        ConfigError: a value that is something else.
    """
    stack: list[tuple[str, Any, int]] = [("", mapping, 0)]
    num_values = 0
    while stack:
        key, value, depth = stack.pop()
        num_values += 1
        if num_values > max_values:
            raise ConfigError(key, value, f"expected at most {max_values:,} values in all")
        if depth > MAX_DEPTH:
            raise ConfigError(key, value, f"nested more than {MAX_DEPTH} deep")
        if isinstance(value, Mapping):
            stack.extend((_join_key(key, name), item, depth + 1) for name, item in value.items())
        elif isinstance(value, list | tuple):
            stack.extend((key, item, depth + 1) for item in value)
        elif complaint := _complaint(value):
            raise ConfigError(key, value, complaint)


def _join_key(path: str, name: Any) -> str:
    if not isinstance(name, str) or len(name) > MAX_KEY or UNPRINTABLE.search(name):
        raise ConfigError(path, name, f"expected keys of printable text, at most {MAX_KEY} characters each")
    return f"{path}.{name}" if path else name


def _complaint(value: Any) -> str | None:
    """What is wrong with a single value."""
    if isinstance(value, str):
        wrong = len(value) > MAX_TEXT or UNPRINTABLE.search(value)
        return f"expected printable text of at most {MAX_TEXT:,} characters" if wrong else None
    if isinstance(value, float) and math.isnan(value):
        return "expected a finite number"
    if isinstance(value, int) and not -MAX_NUMBER <= value < MAX_NUMBER:
        return "expected a number of at most 64 bits"
    return None if value is None or isinstance(value, int | float) else "expected text, a number, true, false or null"


class Section:
    """The keys below `path`, taken one by one.

    Args:
        mapping: the plain mapping; not changed.
        path: its dotted place in the configuration, empty at the top.

    Raises:
        ConfigError: from every method, for a value that is missing, of another type or out of range.
    """

    def __init__(self, mapping: Any, path: str = "") -> None:
        if not isinstance(mapping, Mapping):
            raise ConfigError(path, mapping, "expected a mapping of keys to values")
        self.path = path
        self._left = dict(mapping)
        self._known: set[str] = set()

    def key(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def take(self, name: str, default: Any = ...) -> Any:
        self._known.add(name)
        value = self._left.pop(name, default)
        if value is ...:
            raise ConfigError(self.key(name), None, "this key is required")
        return value

    def take_int(self, name: str, low: int, high: int) -> int:
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(self.key(name), value, f"expected a whole number from {low:,} to {high:,}")
        return value

    def take_float(self, name: str, above: float = 0.0) -> float:
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(self.key(name), value, "expected a number")
        if not (-MAX_FLOAT <= value <= MAX_FLOAT and value > above):
            raise ConfigError(self.key(name), value, f"expected a finite number above {above:g}")
        return float(value)

    def take_optional_float(self, name: str) -> float | None:
        """A positive finite number, or null."""
        return None if self._left.get(name) is None and self.take(name) is None else self.take_float(name)

    def take_count_or_auto(self, name: str, high: int) -> int | None:
        """A whole number from 1 to `high`, or None for `auto`."""
        value = self.take(name)
        if value == "auto":
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
            raise ConfigError(self.key(name), value, f"expected auto or a whole number from 1 to {high:,}")
        return value

    def take_bool(self, name: str, default: Any = ...) -> bool:
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise ConfigError(self.key(name), value, "expected true or false")
        return value

    def take_text(self, name: str, default: Any = ...) -> str:
        value = self.take(name, default)
        if not isinstance(value, str):
            raise ConfigError(self.key(name), value, "expected text")
        return value

    def take_name(self, name: str) -> str:
        """A name that may become part of a path."""
        value = self.take(name)
        if not isinstance(value, str) or not NAME.fullmatch(value):
            raise ConfigError(self.key(name), value, "expected a name of up to 64 letters, digits, and any of _ . + -")
        return value

    def take_choice(self, name: str, choices: Iterable[str]) -> str:
        value, allowed = self.take(name), list(choices)
        if value not in allowed:
            raise ConfigError(self.key(name), value, f"expected one of {', '.join(allowed)}")
        return str(value)

    def rest(self) -> dict[str, Any]:
        """All keys not taken so far; the section is then done."""
        left, self._left = self._left, {}
        return left

    def finish(self) -> None:
        """Raises UnknownKeyError if a key was never taken."""
        for name, value in self._left.items():
            raise UnknownKeyError(self.key(name), value, self._known)
