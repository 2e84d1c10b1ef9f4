"""The axes of a sweep: from how they are written to the values of each key."""

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from bench.config.meaning import by_value
from bench.errors import ConfigError

MAX_CELLS = 100_000
FORMS = ("choice", "linspace", "logspace", "range")
AXIS_FORMS = "[values...], [linspace|logspace, start, stop, num] or [range, start, stop, step], all finite"
Number: TypeAlias = int | float


def parse_axes(value: Any) -> dict[str, list[Any]]:
    """The values of each dotted key, from a mapping that may be nested, as Hydra's overrides make it.

    Raises:
        ConfigError: an axis that makes no sense, or axes that multiply to more cells than a job may have: the first one
            that makes the grid too large is the last one expanded.
    """
    axes: dict[str, list[Any]] = {}
    for key, item in _flatten(value, ""):
        if key in axes:
            raise ConfigError(f"sweep.axes.{key}", item, "expected every axis once")
        axes[key] = _values_of(key, item)
        check_count(math.prod(map(len, axes.values())))
    return axes


def check_count(num_cells: int) -> None:
    """Raises ConfigError for more cells than a job may have."""
    if num_cells > MAX_CELLS:
        raise ConfigError("sweep.axes", f"{num_cells:,} cells", f"expected at most {MAX_CELLS:,} cells in one job")


def _flatten(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, item in value.items():
        yield from _flatten(item, f"{key}.{name}" if key else str(name))


def _values_of(key: str, value: Any) -> list[Any]:
    try:
        values = _expand(value)
        if not values or len({repr(by_value(item)) for item in values}) < len(values):
            raise ValueError("at least one value, and no value twice")
    except ValueError as allowed:
        raise ConfigError(f"sweep.axes.{key}", value, f"expected {allowed}") from None
    return values


def _expand(value: Any) -> list[Any]:
    """The values that an axis stands for. Raises ValueError, which says what is allowed."""
    match value:
        case ["choice", *values]:
            return _alike(values)
        case [("linspace" | "logspace" | "range"), *numbers] if not all(map(_is_finite, numbers)):
            raise ValueError(AXIS_FORMS)
        case ["range", start, stop]:
            return _range(start, stop, 1)
        case ["range", start, stop, step]:
            return _range(start, stop, step)
        case [("linspace" | "logspace") as form, start, stop, num]:
            return _space(form, start, stop, num)
        case list() if not value or value[0] not in FORMS:
            return _alike(value)
    raise ValueError(AXIS_FORMS)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _alike(values: list[Any]) -> list[Any]:
    """Numbers of one type: `[0, 0.01]` are two floats, which train in one pack."""
    if all(map(_is_finite, values)) and any(isinstance(value, float) for value in values):
        return [float(value) for value in values]
    return values


def _range(start: Number, stop: Number, step: Number) -> list[Number]:
    """From `start` on, `stop` left out, exact in decimals as they are written: `[range,0.1,0.5,0.1]` ends with 0.4."""
    first, last, pace = (Fraction(str(number)) for number in (start, stop, step))
    if not pace or abs(last - first) > MAX_CELLS * abs(pace):
        raise ValueError(f"a step other than 0 and at most {MAX_CELLS:,} values")
    whole = all(isinstance(number, int) for number in (start, stop, step))
    points = [first + number * pace for number in range(max(0, math.ceil((last - first) / pace)))]
    return [int(point) if whole else float(point) for point in points]


def _space(form: str, start: Number, stop: Number, num: Number) -> list[float]:
    if not isinstance(num, int) or not 1 <= num <= MAX_CELLS or (form == "logspace" and min(start, stop) <= 0):
        raise ValueError(f"1 to {MAX_CELLS:,} values, and positive ends for a logspace")
    with np.errstate(all="ignore"):
        points = np.linspace(start, stop, num) if form == "linspace" else np.geomspace(start, stop, num)
    if not np.isfinite(points).all():
        raise ValueError(AXIS_FORMS)
    return [float(f"{point:.6g}") for point in points]  # short numbers, so that a value reads the same everywhere
