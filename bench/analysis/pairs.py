"""Two arms on the same units: searches where there are several, else seeds; who failed, and by how much they differ."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.analysis.arrays import Array

SEARCH, SEED = "search", "seed"


@dataclass(frozen=True)
class Arms:
    """Paired results of two arms.

    Attributes:
        unit: `SEARCH` where both were searched anew at least twice (the difference is one between optimizers, each
            tuned by the same search), else `SEED` (between two settings that were fixed beforehand).
        differences: arm - other `[units]`, of units on which both succeeded; within a search the mean over its seeds.
        failed, other_failed: How many units of each arm hold a failed run.
        num_units, other_units: How many units each arm has.
        num_runs: Pairs of runs behind `differences`.
    """

    unit: str
    differences: Array
    failed: int
    num_units: int
    other_failed: int
    other_units: int
    num_runs: int


def pair_arms(arm: pd.DataFrame, other: pd.DataFrame, column: str) -> Arms:
    """Two arms paired by search and seed.

    Args:
        arm: Final runs of one optimizer in one setting: replicate, seed and `column`, in which inf stands for failure
            and NaN for "not known".
        other: The same of the other.
        column: What is compared.
    """
    common = set(arm["replicate"]) & set(other["replicate"])
    unit = SEARCH if len(common) > 1 else SEED
    keys = ["replicate", "seed"]
    arm, other = (runs[runs["replicate"].isin(common) & runs[column].notna()] for runs in (arm, other))
    pairs = arm[[*keys, column]].merge(other[[*keys, column]], on=keys, suffixes=("", "_other"))
    pairs = pairs[np.isfinite(pairs[column]) & np.isfinite(pairs[f"{column}_other"])]
    differences = (pairs[column] - pairs[f"{column}_other"]).groupby([pairs["replicate"], pairs["seed"]]).first()
    if unit == SEARCH:
        differences = differences.groupby("replicate").mean()
    failed, other_failed = (failed_units(runs, column, unit) for runs in (arm, other))
    return Arms(unit, differences.to_numpy(dtype=float), int(failed.sum()), len(failed), int(other_failed.sum()),
                len(other_failed), len(pairs))  # fmt: skip


def failed_units(runs: pd.DataFrame, column: str, unit: str) -> pd.Series:
    """Whether each unit holds a run whose `column` is infinite: a search fails where its cell fails on any seed."""
    keys = ["replicate"] if unit == SEARCH else ["replicate", "seed"]
    return runs.assign(failed=np.isinf(runs[column])).groupby(keys)["failed"].any()
