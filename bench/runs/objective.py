"""What a sweep is judged by: the final validation loss, mean over seeds, and the cell that is best by it."""

import math
from collections.abc import Sequence
from statistics import fmean

from bench.runs.schema import Run


def split_replicates(runs: Sequence[Run]) -> dict[int, list[Run]]:
    """Runs by the search that they belong to, in order; a grid is one search."""
    searches: dict[int, list[Run]] = {}
    for run in runs:
        searches.setdefault(run.replicate, []).append(run)
    return dict(sorted(searches.items()))


def rank_cells(runs: Sequence[Run]) -> list[tuple[float, list[Run]]]:
    """Runs of one search by cell with the objective of the cell, best first; inf where a seed did not train to the end.

    A cell that was tried on more seeds than another goes before it, so that one lucky seed beats no finalist.
    """
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(repr(run.cell), []).append(run)
    ranked = [(fmean(map(_final_loss, members)), members) for members in cells.values()]
    return sorted(ranked, key=lambda item: (math.isinf(item[0]), -len(item[1]), item[0]))


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
