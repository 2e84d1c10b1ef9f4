"""What a sweep is judged by: the final validation loss, mean over seeds, and the cell that is best by it."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

from bench.runs.schema import Run


def split_replicates(runs: Sequence[Run]) -> dict[int, list[Run]]:
    """Runs by the search that they belong to, in order; a grid is one search."""
    searches: dict[int, list[Run]] = {}
    for run in runs:
        searches.setdefault(run.replicate, []).append(run)
    return dict(sorted(searches.items()))


def rank(losses: Mapping[str, Sequence[float]]) -> list[str]:
    """The cells of one search, best first: the one definition of the best cell.

    Lowest mean over seeds of the final validation loss. A cell with a failed seed comes after all without one; before
    that, a cell that was tried on more seeds than another goes before it, so that one lucky seed beats no finalist.

    Args:
        losses: of each cell, one per seed; inf where the seed did not train to the end.
    """

    def key(cell: str) -> tuple[bool, int, float, int]:
        mean = fmean(losses[cell])
        return math.isinf(mean), -len(losses[cell]), mean, sum(map(math.isinf, losses[cell]))

    return sorted(losses, key=key)


def rank_cells(runs: Sequence[Run]) -> list[tuple[float, list[Run]]]:
    """Runs of one search by cell with its objective, best first; inf where a seed did not train to the end."""
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(repr(run.cell), []).append(run)
    losses = {cell: list(map(_final_loss, members)) for cell, members in cells.items()}
    return [(fmean(losses[cell]), cells[cell]) for cell in rank(losses)]


def edge_of(value: float, low: float, high: float) -> Literal["lower", "higher"] | None:
    """The end of the tried values `low` to `high` that the best one sits on: beyond it, a better one may lie.

    Below zero there is nothing: no hyperparameter may be negative.
    """
    if 0 < value <= low:
        return "lower"
    return "higher" if value >= high else None


def objective_of(runs: Sequence[Run]) -> float:
    """The objective of the best cell, on fresh seeds where it was trained on some; mean over searches, inf if none."""
    best = []
    for search in split_replicates(runs).values():
        fresh = [run for run in search if run.stage == "fresh"]
        best.append(rank_cells(fresh or search)[0][0])
    return fmean(best) if best else math.inf


def _final_loss(run: Run) -> float:
    value = run.summary.final_val_loss
    return math.inf if value is None or run.status != "completed" else value
