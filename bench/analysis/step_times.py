"""What a step costs, and where: only clocks that ran for one trial alone count."""

import math

import pandas as pd

PARTS = ("data", "forward", "backward", "optimizer")


def step_costs(used: pd.DataFrame, timed: pd.DataFrame) -> pd.DataFrame:
    """Seconds per step of each optimizer in each setting.

    Measured where runs trained alone, median over them; else derived from the calibration that packs bring along.

    Args:
        used: Comparable runs.
        timed: Those whose clock may rank (`comparability.timing_runs`).

    Returns:
        setting, optimizer, step_seconds (NaN where nobody measured it), derived, num_runs.
    """
    measured = timed.groupby(["setting", "optimizer"])["step_seconds"].agg(["median", "count"])
    packed = used[used["shared_timing"].astype(bool) & used["alone_step_seconds"].notna()]
    derived = packed.groupby(["setting", "optimizer"])["alone_step_seconds"].agg(["median", "count"])
    rows = []
    for key in sorted(set(zip(used["setting"], used["optimizer"], strict=True))):
        own = measured.loc[key] if key in measured.index else None
        if own is not None and own["count"] > 0:
            rows.append((*key, own["median"], False, int(own["count"])))
        elif key in derived.index:
            rows.append((*key, derived.loc[key, "median"], True, int(derived.loc[key, "count"])))
        else:
            rows.append((*key, math.nan, True, 0))
    return pd.DataFrame(rows, columns=["setting", "optimizer", "step_seconds", "derived", "num_runs"])


def step_parts(timed: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """Seconds per step by part: median over a run's evaluations, then over runs.

    Returns:
        setting, optimizer, num_runs, and one column per part; the frame is empty where no run was timed alone.
    """
    columns = [f"{part}_seconds" for part in PARTS]
    present = [name for name in columns if name in metrics]
    mine = metrics[metrics["run"].isin(timed.index) & (metrics["step"] > 0)]
    if mine.empty or not present:
        return pd.DataFrame(columns=["setting", "optimizer", "num_runs", *columns])
    by_run = mine.groupby("run")[present].median().reindex(columns=columns)
    by_run = by_run.join(timed[["setting", "optimizer"]]).dropna(subset=present)
    grouped = by_run.groupby(["setting", "optimizer"])
    return grouped[columns].median().assign(num_runs=grouped.size()).reset_index()
