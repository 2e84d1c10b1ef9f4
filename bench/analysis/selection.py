"""Which cell speaks for an optimizer, and on which seeds: fresh ones where a study has them, never those tuned on."""

from collections.abc import Iterable

import pandas as pd

from bench.analysis.frames import each, groups
from bench.errors import count_of
from bench.runs.objective import rank

KEYS = ["setting", "optimizer", "replicate"]


def summarize_cells(used: pd.DataFrame) -> pd.DataFrame:
    """One row per (setting, optimizer, replicate, cell) over the runs that tuned.

    Returns:
        setting, optimizer, replicate, cell, num_seeds, num_diverged, mean_loss (validation; inf where a seed failed),
        losses (a tuple, one per seed).
    """
    grouped = used[used["stage"] != "fresh"].groupby([*KEYS, "cell"], sort=True)
    cells = grouped.agg(
        num_seeds=("seed", "nunique"),
        num_diverged=("status", lambda status: int((status == "diverged").sum())),
        mean_loss=("loss", "mean"),
        losses=("loss", tuple),
    )
    return cells.reset_index()


def choose_cells(used: pd.DataFrame) -> pd.DataFrame:
    """The best cell of each optimizer in each setting and search.

    The first by `bench.runs.objective.rank` over the tuning seeds, as the search itself chooses. Where cells were
    trained again on fresh seeds, the choice is among those.

    Returns:
        setting, optimizer, replicate, cell, num_cells (tried while tuning), num_trials, tuned_seeds, fresh (bool).
    """
    cells_of = dict(groups(summarize_cells(used), KEYS))
    none = summarize_cells(used.iloc[:0])
    rows = []
    for key, group in groups(used, KEYS):
        again, tuning = group[group["stage"] == "fresh"], group[group["stage"] != "fresh"]
        cells = cells_of.get(key, none)
        rows.append(
            {
                **dict(zip(KEYS, key, strict=True)),
                "cell": _best_cell(cells, sorted(again["cell"].unique())),
                "num_cells": len(cells),
                "num_trials": len(tuning),
                "tuned_seeds": tuple(sorted(tuning["seed"].unique())),
                "fresh": not again.empty,
            }
        )
    return pd.DataFrame(rows, columns=[*KEYS, "cell", "num_cells", "num_trials", "tuned_seeds", "fresh"])


def _best_cell(cells: pd.DataFrame, again: list[str]) -> str:
    if again:
        cells = cells[cells["cell"].isin(again)]
        if cells.empty:
            return again[0]
    return rank(dict(zip(cells["cell"], cells["losses"], strict=True)))[0]


def final_runs(used: pd.DataFrame, chosen: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The runs that final comparisons rest on: those of the chosen cells, one per search and seed.

    Args:
        used: Comparable runs.
        chosen: From `choose_cells`.

    Returns:
        The runs, with the column `fresh`, and sentences on what the choice of seeds means.
    """
    if used.empty:
        return used.assign(fresh=False), []
    keyed = used.reset_index().merge(chosen, on=[*KEYS, "cell"]).set_index("run")
    is_fresh = keyed["stage"] == "fresh"
    tuned_on = pd.Series(
        [seed in seeds for seed, seeds in zip(keyed["seed"], keyed["tuned_seeds"], strict=True)], index=keyed.index
    )
    final = keyed[(keyed["fresh"] & is_fresh & ~tuned_on) | (~keyed["fresh"] & ~is_fresh)]
    final = final.sort_values("time", kind="stable").drop_duplicates([*KEYS, "seed"], keep="last")
    notes = _describe_seeds(chosen, int((keyed["fresh"] & is_fresh & tuned_on).sum()))
    return final.sort_index(), notes


def _describe_seeds(chosen: pd.DataFrame, num_overlapping: int) -> list[str]:
    """Who is compared on fresh seeds, and who on those that were tuned on."""
    notes = []
    if num_overlapping:
        text = "on fresh seeds that had been tuned on"
        notes.append(f"Left out: {count_of(num_overlapping, 'run')} {text}.")
    reused = chosen[~chosen["fresh"] & (chosen["num_cells"] > 1)]
    if chosen["fresh"].any():
        whose = f" of {_arms(chosen[chosen['fresh']])}" if len(reused) else ""
        notes.append(f"Final comparisons{whose} use only runs on fresh seeds, none of which took part in tuning.")
    if len(reused):
        text = "cells were chosen and compared on the same seeds, which flatters."
        notes.append(f"No fresh seeds for {_arms(reused)}: {text}")
    return notes


def _arms(chosen: pd.DataFrame) -> str:
    return shortlist({f"{row.optimizer} on {row.setting}" for row in each(chosen)})


def shortlist(names: Iterable[str], limit: int = 8) -> str:
    """a, b, c and 5 more."""
    ordered = sorted(names)
    return ", ".join(ordered[:limit]) + (f" and {len(ordered) - limit} more" if len(ordered) > limit else "")


def describe_budgets(chosen: pd.DataFrame) -> list[str]:
    """A sentence on each group of settings in which the optimizers were not tuned equally long."""
    by_counts: dict[str, list[str]] = {}
    for setting, group in groups(chosen, "setting"):
        trials = group.groupby("optimizer")["num_trials"].max()
        if trials.nunique() > 1:
            counts = ", ".join(f"{name} {count}" for name, count in trials.sort_values(kind="stable").items())
            by_counts.setdefault(counts, []).append(str(setting))
    return [f"Unequal tuning in {', '.join(names)}; trials: {counts}." for counts, names in by_counts.items()]
