"""What a configuration may be made of: plain values of bounded size."""

import math
import re
from collections.abc import Mapping
from typing import Any

from bench.errors import ConfigError

MAX_DEPTH = 16
MAX_KEY, MAX_TEXT = 200, 10_000
MAX_NUMBER = 2**63
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def check_plain(mapping: Mapping[Any, Any], max_values: int) -> None:
    """Refuse what no configuration needs and what the code behind this check could trip over.

    Args:
        mapping: keys that are text; text, booleans, finite numbers of 64 bits, null, and lists and mappings of them.
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
    if isinstance(value, float) and not math.isfinite(value):  # JSON, in which a run is stored, has no infinity
        return "expected a finite number"
    if isinstance(value, int) and not -MAX_NUMBER <= value < MAX_NUMBER:
        return "expected a number of at most 64 bits"
    return None if value is None or isinstance(value, int | float) else "expected text, a number, true, false or null"
