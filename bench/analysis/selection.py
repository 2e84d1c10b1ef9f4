"""Which cell speaks for an optimizer, and on which seeds: fresh ones where a study has them, never those tuned on."""

import pandas as pd

from bench.analysis.frames import groups

FRESH_SWEEP = "fresh_seeds"
MIN_SEEDS = 3


def summarize_cells(used: pd.DataFrame) -> pd.DataFrame:
    """One row per (setting, optimizer, cell) over the tuning runs.

    Returns:
        setting, optimizer, cell, num_seeds, num_diverged, median_loss (inf where half diverged), mean_loss (diverged
        runs count as untrained).
    """
    tuning = used[used["sweep"] != FRESH_SWEEP]
    grouped = tuning.groupby(["setting", "optimizer", "cell"], sort=True)
    cells = grouped.agg(
        num_seeds=("seed", "nunique"),
        num_diverged=("status", lambda status: int((status == "diverged").sum())),
        median_loss=("loss", "median"),
        mean_loss=("finite_loss", "mean"),
    )
    return cells.reset_index()


def choose_cells(used: pd.DataFrame) -> pd.DataFrame:
    """The best cell of each optimizer in each setting: lowest median final validation loss of its tuning runs.

    Cells with at least `MIN_SEEDS` seeds go before all others, so that one lucky seed beats nobody. Where cells were
    run again on fresh seeds, the choice is among those, still by their tuning runs.

    Returns:
        setting, optimizer, cell, num_cells (tried while tuning), num_trials, tuned_seeds, fresh (bool).
    """
    cells = summarize_cells(used)
    cells_of = dict(groups(cells, ["setting", "optimizer"]))
    rows = []
    for (setting, optimizer), group in groups(used, ["setting", "optimizer"]):
        is_fresh = group["sweep"] == FRESH_SWEEP
        again, tuning = group[is_fresh], group[~is_fresh]
        mine = cells_of.get((setting, optimizer), cells.iloc[:0])
        rows.append(
            {
                "setting": setting,
                "optimizer": optimizer,
                "cell": _best_cell(mine, sorted(again["cell"].unique())),
                "num_cells": len(mine),
                "num_trials": len(tuning),
                "tuned_seeds": tuple(sorted(tuning["seed"].unique())),
                "fresh": not again.empty,
            }
        )
    columns = ["setting", "optimizer", "cell", "num_cells", "num_trials", "tuned_seeds", "fresh"]
    return pd.DataFrame(rows, columns=columns)


def _best_cell(cells: pd.DataFrame, rerun: list[str]) -> str:
    if rerun:
        cells = cells[cells["cell"].isin(rerun)]
        if cells.empty:
            return rerun[0]
    if (cells["num_seeds"] >= MIN_SEEDS).any():
        cells = cells[cells["num_seeds"] >= MIN_SEEDS]
    return str(cells.sort_values(["median_loss", "mean_loss", "cell"])["cell"].iloc[0])


def final_runs(used: pd.DataFrame, chosen: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The runs that final comparisons rest on: those of the chosen cells, one per seed.

    Args:
        used: Comparable runs.
        chosen: From `choose_cells`.

    Returns:
        The runs, with the column `fresh`, and sentences on what the choice of seeds means.
    """
    if used.empty:
        return used.assign(fresh=False), []
    keyed = used.reset_index().merge(chosen, on=["setting", "optimizer", "cell"]).set_index("run")
    is_fresh_sweep = keyed["sweep"] == FRESH_SWEEP
    tuned_on = pd.Series(
        [seed in seeds for seed, seeds in zip(keyed["seed"], keyed["tuned_seeds"], strict=True)], index=keyed.index
    )
    final = keyed[(keyed["fresh"] & is_fresh_sweep & ~tuned_on) | (~keyed["fresh"] & ~is_fresh_sweep)]
    final = final.sort_values("time", kind="stable").drop_duplicates(["setting", "optimizer", "seed"], keep="last")
    notes = []
    if overlap := int((keyed["fresh"] & is_fresh_sweep & tuned_on).sum()):
        notes.append(f"{overlap} runs of the fresh-seed sweep used seeds that had been tuned on; they are left out.")
    if final["fresh"].any():
        notes.append("Final comparisons use only runs on fresh seeds, none of which took part in tuning.")
    reused = chosen[~chosen["fresh"] & (chosen["num_cells"] > 1)]
    if len(reused):
        names = ", ".join(sorted(reused["optimizer"].unique())[:8])
        notes.append(
            f"No fresh seeds for {names}: best cells were chosen and compared on the same seeds, which flatters them."
        )
    return final.sort_index(), notes


def describe_budgets(chosen: pd.DataFrame) -> list[str]:
    """A sentence on each group of settings in which the optimizers were not tuned equally long."""
    by_counts: dict[str, list[str]] = {}
    for setting, group in groups(chosen, "setting"):
        trials = group.set_index("optimizer")["num_cells"]
        if trials.nunique() > 1:
            counts = ", ".join(f"{name} {count}" for name, count in trials.sort_values(kind="stable").items())
            by_counts.setdefault(counts, []).append(str(setting))
    return [f"Unequal tuning in {', '.join(names)}; cells tried: {counts}." for counts, names in by_counts.items()]
