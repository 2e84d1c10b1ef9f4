"""Checks of a task's own options, so that every mistake is one line naming key, value and what is allowed."""

import os
from collections.abc import Sequence
from pathlib import Path

MAX_VALUE_TEXT = 120


def check_int(key: str, value: object, low: int, high: int) -> None:
    """Refuse a value that is not an integer within [low, high].

    Raises:
        ValueError: naming `task.<key>`, the value and the range.
    """
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"task.{key}={_short(value)} is not allowed: give an integer from {low} to {high}")


def check_float(key: str, value: object, low: float, high: float) -> None:
    """Refuse a value that is not a finite number within [low, high].

    Raises:
        ValueError: naming `task.<key>`, the value and the range.
    """
    if type(value) not in (int, float) or not low <= value <= high:  # type: ignore[operator]
        raise ValueError(f"task.{key}={_short(value)} is not allowed: give a number from {low:g} to {high:g}")


def check_choice(key: str, value: object, allowed: Sequence[object]) -> None:
    """Refuse a value that is not one of `allowed`.

    Raises:
        ValueError: naming `task.<key>`, the value and the choices.
    """
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in allowed):
        raise ValueError(f"task.{key}={_short(value)} is not allowed: choose one of {', '.join(map(str, allowed))}")


def check_path(key: str, value: object, *, folder_allowed: bool) -> Path:
    """Return `value`, with `~` expanded, as the path of a readable file, or of a folder where that is allowed.

    Raises:
        ValueError: naming `task.<key>`, the value and what is wrong with it.
    """
    wanted = "a file or a folder" if folder_allowed else "a file"
    if not isinstance(value, str) or not value:
        raise ValueError(f"task.{key}={_short(value)} is not allowed: give the path of {wanted}")
    path = os.path.expanduser(value)  # os.path answers False where pathlib raises: too long a name, a null character
    if not (os.path.isfile(path) or (folder_allowed and os.path.isdir(path))):
        raise ValueError(f"task.{key}={_short(value)} does not exist: give the path of {wanted}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"task.{key}={_short(value)} cannot be read: its permissions forbid it")
    return Path(path)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_VALUE_TEXT else text[: MAX_VALUE_TEXT - 1] + "…"
