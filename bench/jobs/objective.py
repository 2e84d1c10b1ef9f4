"""What a sweep is judged by: the final validation loss, mean over seeds."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

Run = Mapping[str, Any]


def cell_of(run: Run) -> dict[str, Any]:
    """The swept keys of a run with their values, the seed left out; empty outside a sweep."""
    cell = run["sweep"]["cell"] if run["sweep"] else {}
    return {key: value for key, value in cell.items() if key != "seed"}


def rank_cells(runs: Sequence[Run]) -> list[tuple[float, list[Run]]]:
    """Runs by cell with the objective of the cell, best first; inf where a seed did not train to the end."""
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(repr(cell_of(run)), []).append(run)
    return sorted(((fmean(map(_final_loss, own)), own) for own in cells.values()), key=lambda item: item[0])


def objective_of(runs: Sequence[Run]) -> float:
    """The objective of the best cell, inf where there is none."""
    return min((objective for objective, _ in rank_cells(runs)), default=math.inf)


def _final_loss(run: Run) -> float:
    value = run["summary"].get("final_val_loss")
    return math.inf if value is None or run["status"] != "completed" else float(value)
