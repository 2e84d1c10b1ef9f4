"""Grids that grow: the next value of an axis beyond the edge on which the best cell sits."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

MAX_GROWTH = 12  # rounds; a grid that is flat towards one side has no best cell there
QUESTIONS = ("seed", "task.loss_scale", "task.variant")


def beyond_edges(axes: Mapping[str, Sequence[Any]], best: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """For each axis of numbers whose edge the best cell sits on, the value that lies one step beyond.

    The step goes on as the axis does: by a factor where it is spaced evenly in logarithm, else by a difference. An axis
    of numbers from 0 up never goes below 0. What makes another question of it is no axis to be tuned.

    Args:
        axes: the values of each key.
        best: the best cell.
    """
    for key, values in axes.items():
        if key in QUESTIONS or key not in best or len(values) < 2 or not all(map(_is_number, values)):
            continue
        ordered = sorted(values)
        if best[key] == ordered[0]:
            value = _step(ordered[1], ordered[0], ordered)
        elif best[key] == ordered[-1]:
            value = _step(ordered[-2], ordered[-1], ordered)
        else:
            continue
        if math.isfinite(value) and value not in values and not value < 0 <= ordered[0]:
            yield key, value


def _step(neighbour: float, edge: float, ordered: Sequence[float]) -> float:
    is_even = ordered[0] <= 0 or not _is_geometric(ordered)
    value = edge + (edge - neighbour) if is_even else edge * (edge / neighbour)
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _is_geometric(ordered: Sequence[float]) -> bool:
    """Whether positive numbers are spaced more evenly in logarithm than as they are."""
    logs = [math.log(value) for value in ordered]
    return _unevenness(logs) <= _unevenness(ordered)


def _unevenness(values: Sequence[float]) -> float:
    steps = [later - earlier for earlier, later in pairwise(values)]
    return max(steps) / min(steps)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
