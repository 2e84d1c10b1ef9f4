"""What a sweep is judged by, mean over seeds, and the cell that is best by it: a final validation loss.

Which weights it is the loss of is `sweep.objective`: those in training (`val_loss`), an average of them
(`ema_0.98_val_loss`), or of each training whichever has the lowest (`best`). What was chosen by validation is shown by
the test loss of the same weights. Trials that stop at their target have no final loss to speak of: theirs is
`steps_to_target`.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

from bench.config.sweep import BEST, RAW_LOSS, STEPS, Cell
from bench.runs.schema import Run

EDGE_SHARE = 0.05  # of a search's range, at either end


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


def rank_cells(runs: Sequence[Run], objective: str = RAW_LOSS) -> list[tuple[float, list[Run]]]:
    """Runs of one search by cell with its objective, best first; inf where a seed did not train to the end."""
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(repr(run.cell), []).append(run)
    losses = {cell: [final_loss(run, objective) for run in members] for cell, members in cells.items()}
    return [(fmean(losses[cell]), cells[cell]) for cell in rank(losses)]


def rank_replicates(runs: Sequence[Run], objective: str) -> dict[int, list[Cell]]:
    """The cells of each replicate that trained to the end, best first."""
    return {
        replicate: [members[0].cell for loss, members in rank_cells(search, objective) if math.isfinite(loss)]
        for replicate, search in split_replicates(runs).items()
    }


def edge_of(value: float, low: float, high: float) -> Literal["lower", "higher"] | None:
    """The end of the tried values `low` to `high` that the best one sits on: beyond it, a better one may lie.

    Below zero there is nothing: no hyperparameter may be negative.
    """
    if 0 < value <= low:
        return "lower"
    return "higher" if value >= high else None


def edge_of_range(value: float, low: float, high: float) -> Literal["lower", "higher"] | None:
    """The end of a search's range in whose outer `EDGE_SHARE` the best value lies, in decades where it spans one."""
    if low > 0 and high >= 10 * low:
        reach = (high / low) ** EDGE_SHARE
        return edge_of(value, low * reach, high / reach)
    reach = EDGE_SHARE * (high - low)
    return edge_of(value, low + reach, high - reach)


def objective_of(runs: Sequence[Run], objective: str = RAW_LOSS) -> float:
    """The objective of the best cell, on fresh seeds where it was trained on some; mean over searches, inf if none."""
    best = []
    for search in split_replicates(runs).values():
        fresh = [run for run in search if run.stage == "fresh"]
        best.append(rank_cells(fresh or search, objective)[0][0])
    return fmean(best) if best else math.inf


def final_loss(run: Run, objective: str = RAW_LOSS, split: Literal["val", "test"] = "val") -> float:
    """The final loss of the weights that `objective` names, or the steps to the target; inf where there are none."""
    if objective == STEPS:
        steps = run.summary.steps_to_target
        return math.inf if steps is None or run.status not in ("completed", "reached") else steps
    value = run.summary.figures.get(f"final_{weights_of(run, objective)}{split}_loss")
    return math.inf if value is None or run.status != "completed" else value


def weights_of(run: Run, objective: str) -> str:
    """What the names of the chosen weights' metrics begin with: nothing for those in training, else as `ema_0.98_`."""
    if objective != BEST:
        return objective.removesuffix(RAW_LOSS)
    figures = run.summary.figures
    measured = [name for name in figures if name.startswith("final_") and name.endswith(RAW_LOSS)]
    losses = {name: value for name in measured if (value := figures[name]) is not None}
    best = min(losses, key=lambda name: (losses[name], len(name)), default=f"final_{RAW_LOSS}")
    return best.removeprefix("final_").removesuffix(RAW_LOSS)
