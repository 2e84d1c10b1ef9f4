"""Values by what they mean, not by how they are spelled."""

from collections.abc import Mapping
from typing import Any


def by_value(value: Any) -> Any:
    """The same in one spelling: a number by its value, so that `1` and `1.0` are one, and a tuple as a list."""
    if isinstance(value, Mapping):
        return {key: by_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [by_value(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
