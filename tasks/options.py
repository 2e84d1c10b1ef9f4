"""Checks of a task's own options, so that every mistake is one line naming key, value and what is allowed."""

import os
from collections.abc import Sequence
from pathlib import Path

from bench.errors import OptionError


def check_int(key: str, value: object, low: int, high: int) -> None:
    """Refuse a value that is not an integer within [low, high].

    Raises:
        OptionError: with the key, the value and the range.
    """
    if type(value) is not int or not low <= value <= high:
        raise OptionError(key, value, f"expected an integer from {low} to {high}")


def check_float(key: str, value: object, low: float, high: float) -> None:
    """Refuse a value that is not a finite number within [low, high].

    Raises:
        OptionError: with the key, the value and the range.
    """
    if type(value) not in (int, float) or not low <= value <= high:  # type: ignore[operator]
        raise OptionError(key, value, f"expected a number from {low:g} to {high:g}")


def check_choice(key: str, value: object, allowed: Sequence[object]) -> None:
    """Refuse a value that is not one of `allowed`.

    Raises:
        OptionError: with the key, the value and the choices.
    """
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in allowed):
        raise OptionError(key, value, f"expected one of {', '.join(map(str, allowed))}")


def check_path(key: str, value: object, *, folder_allowed: bool) -> Path:
    """Return `value`, with `~` expanded, as the path of a readable file, or of a folder where that is allowed.

    Raises:
        OptionError: with the key, the value and what is wrong with it.
    """
    wanted = "a file or a folder" if folder_allowed else "a file"
    if not isinstance(value, str) or not value:
        raise OptionError(key, value, f"expected the path of {wanted}")
    path = os.path.expanduser(value)  # os.path answers False where pathlib raises: too long a name, a null character
    if not (os.path.isfile(path) or (folder_allowed and os.path.isdir(path))):
        raise OptionError(key, value, f"does not exist: give the path of {wanted}")
    if not os.access(path, os.R_OK):
        raise OptionError(key, value, "cannot be read: its permissions forbid it")
    return Path(path)
