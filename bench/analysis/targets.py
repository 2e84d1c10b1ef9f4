"""Steps and seconds to a target: found by time, not by index, inf when missed, for one target and for a whole curve."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bench.analysis.arrays import Array
from bench.analysis.frames import each, groups
from bench.runs.crossings import first_crossings

NUM_TARGETS = 40
SHIFTS = tuple(round(-0.2 + 0.02 * i, 2) for i in range(21))
TARGET_PATTERN = re.compile(r"(?:(?P<task>[^:]+):)?(?P<metric>[A-Za-z0-9_./-]+)\s*(?P<sign><=|>=)\s*(?P<value>\S+)")


def parse_target(text: str) -> dict[str, object]:
    """`[TASK:]METRIC<=VALUE` (or >=) as task (None for all), metric, value, mode.

    Raises:
        ValueError: the text has another form.
    """
    match = TARGET_PATTERN.fullmatch(text.strip())
    try:
        value = float(match["value"]) if match else math.nan
    except ValueError:
        value = math.nan
    if not match or not math.isfinite(value):
        raise ValueError(f"target {text!r} is not of the form [TASK:]METRIC<=VALUE or >=, e.g. 'mlp:val_loss<=0.3'")
    mode = "min" if match["sign"] == "<=" else "max"
    return {"task": match["task"], "metric": match["metric"], "value": value, "mode": mode}


def choose_targets(runs: pd.DataFrame, overrides: Sequence[dict[str, object]] = ()) -> pd.DataFrame:
    """One target per setting: what most of its runs name, unless the user gave another one.

    Returns:
        setting, metric, value, mode; settings without any target have no row.
    """
    rows = []
    for setting, group in groups(runs, "setting"):
        named = group[group["target_value"].notna() & (group["target_metric"] != "")]
        counts = named.groupby(["target_metric", "target_value", "target_mode"]).size()
        most_named: Any = counts.idxmax() if len(counts) else None
        row = dict(zip(("metric", "value", "mode"), most_named, strict=True)) if most_named else None
        for override in overrides:
            if override["task"] in (None, group["task"].iloc[0]):
                row = {key: override[key] for key in ("metric", "value", "mode")}
        if row:
            rows.append({"setting": setting, **row})
    return pd.DataFrame(rows, columns=["setting", "metric", "value", "mode"])


def times_to_target(
    runs: pd.DataFrame, metrics: pd.DataFrame, targets: pd.DataFrame, costs: pd.DataFrame
) -> pd.DataFrame:
    """Steps each run took to its setting's target, and what they cost.

    Args:
        runs: Comparable runs.
        metrics: All metrics.
        targets: From `choose_targets`.
        costs: From `step_times.step_costs`.

    Returns:
        Indexed by run: setting, optimizer, cell, replicate, seed, steps_to_target, seconds_to_target (inf: missed; NaN:
        the cost of a step was not measured), steps_before (the last evaluation before the target was met, 0 without
        one, inf where missed: the crossing lies after it).
    """
    by_setting = {target.setting: target for target in each(targets)}
    cost = costs.set_index(["setting", "optimizer"])["step_seconds"].to_dict()
    who = ["setting", "optimizer", "cell", "replicate", "seed"]
    rows = []
    for run, curve in groups(metrics[metrics["run"].isin(runs.index)], "run"):
        info = runs.loc[run]
        target = by_setting.get(info["setting"])
        if target is None:
            continue
        steps = before = math.inf
        if target.metric in curve:
            values, at = curve[target.metric].to_numpy(), curve["step"].to_numpy(dtype=float)
            steps = first_crossings(values, at, np.array([target.value]), target.mode)[0]
            before = at[at < steps].max(initial=0.0) if math.isfinite(steps) else math.inf
        seconds = steps * cost.get((info["setting"], info["optimizer"]), math.nan) if math.isfinite(steps) else steps
        rows.append((run, *info[who], steps, seconds, before))
    columns = ["run", *who, "steps_to_target", "seconds_to_target", "steps_before"]
    return pd.DataFrame(rows, columns=columns).set_index("run")


def common_crossings(final: pd.DataFrame, metrics: pd.DataFrame, targets: pd.DataFrame) -> dict[tuple[str, str], float]:
    """(setting, optimizer) -> the first evaluation at which the mean over its runs is at or past the target.

    A run that has ended early counts as infinitely bad from then on; inf where the mean never gets there.
    """
    found = {}
    for target in each(targets):
        if target.metric not in metrics:
            continue
        worst = math.inf if target.mode == "min" else -math.inf
        for optimizer, runs in groups(final[final["setting"] == target.setting], "optimizer"):
            rows = metrics.loc[metrics["run"].isin(runs.index), ["run", "step", target.metric]].dropna()
            means = rows.pivot_table(index="step", columns="run", values=target.metric).fillna(worst).mean(axis=1)
            steps = first_crossings(
                means.to_numpy(), means.index.to_numpy(float), np.array([target.value]), target.mode
            )
            found[target.setting, str(optimizer)] = float(steps[0])
    return found


def target_curves(final: pd.DataFrame, metrics: pd.DataFrame, targets: pd.DataFrame) -> pd.DataFrame:
    """Median steps to every target between the untrained model and the best that anybody reached.

    Returns:
        setting, metric, mode, target, optimizer, steps (median over seeds, inf kept), num_seeds, num_reached.
    """
    parts = []
    curves = dict(list(metrics[metrics["run"].isin(final.index)].groupby("run")))
    for row in each(targets):
        members = final[final["setting"] == row.setting]
        known = {run: curves[run] for run in members.index if run in curves and row.metric in curves[run]}
        thresholds = _threshold_grid([curve[row.metric].to_numpy() for curve in known.values()], row.mode)
        part = _median_steps(members, known, row.metric, row.mode, thresholds)
        parts.append(part.assign(setting=row.setting, metric=row.metric, mode=row.mode))
    columns = ["setting", "metric", "mode", "target", "optimizer", "steps", "num_seeds", "num_reached"]
    return pd.concat(parts)[columns].reset_index(drop=True) if parts else pd.DataFrame(columns=columns)


def _threshold_grid(values: list[Array], mode: str) -> Array:
    """From where training starts to the best value seen, on a log grid where all values are positive."""
    finite = [v[np.isfinite(v)] for v in values]
    finite = [v for v in finite if len(v)]
    if not finite:
        return np.empty(0)
    start = float(np.median([v[0] for v in finite]))
    best = min(float(v.min()) for v in finite) if mode == "min" else max(float(v.max()) for v in finite)
    if mode == "min" and 0 < best < start:
        return np.geomspace(start, best, NUM_TARGETS)
    return np.linspace(start, best, NUM_TARGETS)


def _median_steps(
    members: pd.DataFrame, curves: dict[int, pd.DataFrame], metric: str, mode: str, thresholds: Array
) -> pd.DataFrame:
    parts = []
    for optimizer, runs in groups(members, "optimizer"):
        never = np.full(len(thresholds), math.inf)
        times = np.array(
            [
                first_crossings(
                    curves[run][metric].to_numpy(), curves[run]["step"].to_numpy(dtype=float), thresholds, mode
                )
                if run in curves
                else never
                for run in runs.index
            ]
        )
        parts.append(pd.DataFrame({
            "target": thresholds,
            "optimizer": optimizer,
            "steps": np.median(times, axis=0) if len(thresholds) else [],
            "num_seeds": len(runs),
            "num_reached": np.isfinite(times).sum(axis=0) if len(thresholds) else [],
        }))  # fmt: skip
    return pd.concat(parts) if parts else pd.DataFrame(columns=["target", "optimizer", "steps", "num_seeds"])


def shift_target(value: float, metric: str, mode: str, shift: float) -> float:
    """The target moved by a share of itself, above zero to the easier side; an accuracy by a share of its error."""
    if mode == "max" and "accuracy" in metric and 0 <= value <= 1:
        return 1 - (1 - value) * (1 + shift)
    return value + abs(value) * (shift if mode == "min" else -shift)


def rank_changes(final: pd.DataFrame, metrics: pd.DataFrame, targets: pd.DataFrame) -> pd.DataFrame:
    """The ranking by median steps to target as the target moves by 0 to 20 % both ways.

    Returns:
        setting, shift, target, optimizer, steps, rank (1 is best, ties share the mean rank, never-reached comes last
        together), kendall_tau (agreement with the ranking at shift 0; NaN where one of them has no order).
    """
    parts = []
    curves = dict(list(metrics[metrics["run"].isin(final.index)].groupby("run")))
    for row in each(targets):
        members = final[final["setting"] == row.setting]
        known = {run: curves[run] for run in members.index if run in curves and row.metric in curves[run]}
        thresholds = np.array([shift_target(row.value, row.metric, row.mode, shift) for shift in SHIFTS])
        part = _median_steps(members, known, row.metric, row.mode, thresholds).assign(setting=row.setting)
        part["shift"] = np.tile(SHIFTS, part["optimizer"].nunique())
        part["rank"] = part.groupby("shift")["steps"].rank(method="average")
        stated = part[part["shift"] == 0.0].set_index("optimizer")["steps"]
        taus = {s: _kendall(stated, g.set_index("optimizer")["steps"]) for s, g in part.groupby("shift")}
        parts.append(part.assign(kendall_tau=part["shift"].map(taus)))
    columns = ["setting", "shift", "target", "optimizer", "steps", "rank", "kendall_tau"]
    return pd.concat(parts)[columns].reset_index(drop=True) if parts else pd.DataFrame(columns=columns)


def _kendall(stated: pd.Series, shifted: pd.Series) -> float:
    ranks = [series.reindex(stated.index).rank() for series in (stated, shifted)]
    if len(stated) < 2 or any(rank.nunique() < 2 for rank in ranks):
        return math.nan
    return float(stats.kendalltau(*ranks).statistic)
