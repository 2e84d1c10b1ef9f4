"""What a sweep is judged by: the final validation loss, mean over seeds."""

import math
from collections.abc import Sequence
from statistics import fmean

from bench.runs.schema import Run


def rank_cells(runs: Sequence[Run]) -> list[tuple[float, list[Run]]]:
    """Runs by cell with the objective of the cell, best first; inf where a seed did not train to the end."""
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(repr(run.cell), []).append(run)
    return sorted(((fmean(map(_final_loss, own)), own) for own in cells.values()), key=lambda item: item[0])


def objective_of(runs: Sequence[Run]) -> float:
    """The objective of the best cell, inf where there is none."""
    return min((objective for objective, _ in rank_cells(runs)), default=math.inf)


def _final_loss(run: Run) -> float:
    value = run.summary.final_val_loss
    return math.inf if value is None or run.status != "completed" else value
