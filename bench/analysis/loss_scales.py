"""Does multiplying the loss by 2^-k move a trajectory? Reports are unscaled, so an invariant rule repeats every bit."""

import math

import numpy as np
import pandas as pd

LOSS_COLUMNS = ("train_loss", "val_loss", "full_val_loss", "full_test_loss")


def compare_scales(used: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """Each run against the run of the same trial at the largest loss scale, bit by bit.

    Args:
        used: Comparable runs.
        metrics: All metrics.

    Returns:
        task, optimizer, loss_scale, reference_scale, num_pairs, num_identical (every loss column agrees in every bit
        at every evaluation), max_difference (largest absolute difference of a validation loss; inf where one ended
        early), median_change (of the final loss, over pairs).
    """
    pairs = _pair_runs(used)
    columns = [name for name in LOSS_COLUMNS if name in metrics]
    involved = set(pairs["run"]) | set(pairs["reference"])
    curves = {
        run: (curve["step"].to_numpy(), curve[columns].to_numpy())
        for run, curve in metrics[metrics["run"].isin(involved)].groupby("run")
    }
    validation = columns.index("val_loss") if pairs.size else 0
    results = [_compare(curves.get(a), curves.get(b), validation) for a, b in pairs[["run", "reference"]].to_numpy()]
    pairs = pairs.assign(identical=[r[0] for r in results], difference=[r[1] for r in results])
    keys = ["task", "optimizer", "loss_scale", "reference_scale"]
    grouped = pairs.groupby(keys).agg(
        num_pairs=("identical", "size"),
        num_identical=("identical", "sum"),
        max_difference=("difference", "max"),
        median_change=("change", "median"),
    )
    return grouped.reset_index().sort_values(
        [*keys[:2], "loss_scale"], ascending=[True, True, False], ignore_index=True
    )


def _pair_runs(used: pd.DataFrame) -> pd.DataFrame:
    columns = ["run", "task", "optimizer", "cell", "seed", "sweep", "loss_scale", "finite_loss"]
    # Everything that makes a setting, but for the scale itself.
    same = ["task", "data_fingerprint", "task_options", "steps", "batch_size", "eval_every", "precision", "device",
            "optimizer", "cell", "seed", "sweep"]  # fmt: skip
    runs = used.reset_index()
    runs[same] = runs[same].fillna(-1.0)
    ordered = runs.sort_values("loss_scale", ascending=False)
    first = ordered.drop_duplicates(same)[[*same, "run", "loss_scale", "finite_loss"]]
    merged = ordered.merge(first, on=same, suffixes=("", "_first"))
    merged = merged[merged["loss_scale"] != merged["loss_scale_first"]]
    merged = merged.assign(change=merged["finite_loss"] - merged["finite_loss_first"])
    return merged.rename(columns={"run_first": "reference", "loss_scale_first": "reference_scale"})[
        [*columns, "reference", "reference_scale", "change"]
    ]


def _compare(
    mine: tuple[np.ndarray, np.ndarray] | None, other: tuple[np.ndarray, np.ndarray] | None, validation: int
) -> tuple[bool, float]:
    if mine is None or other is None or not np.array_equal(mine[0], other[0]):
        return False, math.inf
    a, b = mine[1], other[1]
    same_nan = np.isnan(a) & np.isnan(b)
    # Bits, not values: 0.0 == -0.0 would pass for equal.
    identical = bool(((a.view(np.int64) == b.view(np.int64)) | same_nan).all())
    gap = np.abs(a[:, validation] - b[:, validation])
    gap = gap[~same_nan[:, validation]]
    return identical, float(np.nan_to_num(gap, nan=math.inf).max(initial=0.0))
