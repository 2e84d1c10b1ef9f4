"""The report's tables, from findings: what stands in each, and the sentences around them."""

import json
from collections.abc import Iterable
from typing import Any

import pandas as pd

from bench.analysis.findings import Findings
from bench.analysis.frames import each, groups
from bench.report.figures.style import format_number
from bench.report.table import (
    MISSING,
    Format,
    Table,
    finite,
    make_table,
    milliseconds,
    signed,
    signed_percent,
    significant,
    times,
)


def verdict_table(found: Findings) -> Table:
    """Every comparison with its interval, the ones over all tasks last."""
    frame = pd.concat([table for table in (found.verdicts, found.overall) if len(table)] or [found.verdicts])
    frame = frame.assign(interval=[_interval(row) for row in each(frame)])
    columns = {
        "setting": "task", "optimizer": "optimizer", "verdict": "verdict", "baseline": "baseline",
        "difference": "difference", "relative": "in %", "interval": "95 % interval", "num_pairs": "pairs",
        "p_holm": "p (Holm)", "loss": "loss", "baseline_loss": "baseline's", "detectable": "detectable",
        "seeds_needed": "seeds needed",
    }  # fmt: skip
    note = (
        "Mean final validation loss on the seeds that both ran; difference = optimizer − baseline, below zero is "
        "better. Detectable: the smallest difference that this many pairs find in 80 % of cases; seeds needed: to "
        "find the observed one. Over all tasks losses are normalized: 0 is the best of the pool, 1 the untrained model."
    )
    formats: dict[str, Format] = dict.fromkeys(("loss", "baseline_loss"), significant)
    formats |= {"difference": signed, "relative": signed_percent, "detectable": finite, "seeds_needed": finite}
    return make_table(frame, columns, title="Comparisons with the baseline", note=note, formats=formats)


def _interval(row: Any) -> str:
    ends = (row.low, row.high)
    return MISSING if abs(row.low) == float("inf") else " to ".join(signed(end) for end in ends)


def speed_table(found: Findings) -> Table:
    """Times to target and the speedup split into its two factors."""
    reached = found.times.groupby(["setting", "optimizer"]).agg(
        steps=("steps_to_target", "median"),
        seconds=("seconds_to_target", lambda column: column.median(skipna=False)),
        seeds=("seed", "nunique"),
    )
    frame = found.costs.merge(reached.reset_index(), on=["setting", "optimizer"], how="inner")
    frame = frame.merge(found.speedups.drop(columns="derived"), on=["setting", "optimizer"], how="left")
    frame["step_seconds"] = frame["step_seconds"].astype(float)
    columns = {
        "setting": "task",
        "optimizer": "optimizer",
        "seeds": "seeds",
        "steps": "steps to target",
        "seconds": "seconds to target",
        "step_seconds": "ms per step",
        "derived": "derived",
        "fewer_steps": "fewer steps",
        "cheaper_step": "cheaper step",
        "speedup": "speedup",
    }
    note = (
        "Medians over seeds, never reached counted as infinite. Speedup over the baseline = fewer steps × cheaper "
        "step. Derived: the runs were packed, and seconds are steps × the cost of a step measured alone."
    )
    formats = {"step_seconds": milliseconds, "fewer_steps": times, "cheaper_step": times, "speedup": times}
    return make_table(frame, columns, title="Times and speedups", note=note, formats=formats)


def cell_table(found: Findings) -> Table:
    """The hyperparameters that each optimizer was judged with."""
    varying = varying_keys(found.used)
    final = found.final.groupby(["setting", "optimizer"]).agg(
        loss=("loss", "median"), accuracy=("final_val_accuracy", "median"), seeds=("seed", "nunique"),
        diverged=("status", lambda status: int((status == "diverged").sum())),
    )  # fmt: skip
    frame = found.chosen.merge(final.reset_index(), on=["setting", "optimizer"], how="left")
    frame["hyperparameters"] = [
        describe_cell(json.loads(row.cell), varying[row.setting, row.optimizer] or {"optimizer.lr"})
        for row in each(frame)
    ]
    columns = {
        "setting": "task",
        "optimizer": "optimizer",
        "hyperparameters": "best hyperparameters",
        "num_cells": "cells tried",
        "num_trials": "tuning trials",
        "fresh": "fresh seeds",
        "seeds": "seeds",
        "diverged": "diverged",
        "loss": "median loss",
        "accuracy": "median accuracy",
    }
    if frame["accuracy"].isna().all():
        del columns["accuracy"]
    note = "Chosen by the lowest median final validation loss over seeds; only keys that some run varied are shown."
    formats = {"loss": significant, "accuracy": significant}
    return make_table(frame, columns, title="Best hyperparameters", note=note, formats=formats)


def varying_keys(runs: pd.DataFrame) -> dict[tuple[str, str], set[str]]:
    """(setting, optimizer) -> the hyperparameters that take more than one value among its runs."""
    varying = {}
    for key, group in groups(runs, ["setting", "optimizer"]):
        seen: dict[str, set[str]] = {}
        for cell in group.drop_duplicates("cell")["hyperparameters"]:
            for name, value in cell.items():
                seen.setdefault(name, set()).add(repr(value))
        varying[key] = {name for name, values in seen.items() if len(values) > 1}
    return varying


def describe_cell(cell: dict[str, Any], keys: Iterable[str]) -> str:
    """lr=0.001 eps=1e-8, for the keys that matter."""
    named = [(key.removeprefix("optimizer."), cell[key]) for key in sorted(keys) if key in cell]
    return " ".join(f"{key}={format_number(value) if isinstance(value, float) else value}" for key, value in named)


def sensitivity_tables(found: Findings) -> list[Table]:
    """Flat widths, edges of grids, drift of the best lr, loss scales; those that have rows."""
    widths = found.flat_widths.assign(
        width=[
            f"{'≥ ' if row.open_low or row.open_high else ''}{row.width:.2f} {row.unit}"
            for row in each(found.flat_widths)
        ],
        key=[key.removeprefix("optimizer.") for key in found.flat_widths["key"]],
    )
    edges = found.edges.assign(key=[key.removeprefix("optimizer.") for key in found.edges["key"]])
    drift = found.drift[found.drift["learned"].astype(bool)].groupby(["setting", "optimizer"], sort=False).agg(
        drift=("drift", "first"), slope=("slope", "first"), low=("best_lr", "min"), high=("best_lr", "max")
    ).reset_index()  # fmt: skip
    who = {"setting": "task", "optimizer": "optimizer"}
    tables = [
        make_table(
            widths,
            who | {"key": "key", "best": "best value", "width": "flat width", "low": "from", "high": "to",
                   "delta": "allowed worsening"},
            title="Flat widths",
            note="≥: the grid ends before the flat region does.",
        ),
        make_table(
            edges,
            who | {"key": "key", "value": "best value", "direction": "look"},
            title="Best cells on an edge",
            note="The true best may lie outside what was tried: widen the range there.",
        ),
        make_table(
            drift,
            who | {"drift": "drift of the best lr (decades)", "slope": "slope (lr per eps)", "low": "lowest best lr",
                   "high": "highest best lr"},
            title="Drift of the best lr with eps",
            note="Over the eps at which something is learned.",
        ),
        make_table(
            found.scales,
            {"task": "task", "optimizer": "optimizer", "loss_scale": "loss scale", "num_pairs": "pairs of runs",
             "num_identical": "bit-identical", "max_difference": "largest difference",
             "median_change": "median change of the final loss"},
            title="The same trial at another loss scale",
            note="Every loss column at every evaluation is compared bit by bit with the unscaled run.",
        ),
    ]  # fmt: skip
    return [table for table in tables if table.rows]


def pool_tables(found: Findings) -> list[Table]:
    """Noise floors, profile scores and aggregates; those that have rows."""
    tables = [
        make_table(
            found.noise,
            {"setting": "task", "sigma": "σ between seeds", "num_runs": "runs", "detectable_3": "detectable, 3 seeds",
             "detectable_5": "5 seeds", "detectable_10": "10 seeds"},
            title="Noise floor",
            note="Pooled over optimizers at their best cells; detectable: in 80 % of cases, if the runs of two "
                 "optimizers are no more alike on one seed than on two.",
            formats=dict.fromkeys(("detectable_3", "detectable_5", "detectable_10"), finite),
        ),
        make_table(
            found.profile_scores,
            {"measure": "measure", "optimizer": "optimizer", "score": "score (exact)",
             "trapezoid": "trapezoid, 100 points", "num_reached": "reached", "num_tasks": "tasks"},
            title="Area under the performance profile",
            note="(1/3) × the integral of ρ over 1 ≤ τ ≤ 4.",
        ),
        make_table(
            found.aggregates,
            {"optimizer": "optimizer", "iqm": "IQM", "iqm_low": "from", "iqm_high": "to",
             "optimality_gap": "optimality gap", "improvement": "P(improvement)", "improvement_low": "from",
             "improvement_high": "to", "num_tasks": "tasks", "num_runs": "runs"},
            title="Aggregates over tasks and seeds",
            note="95 % percentile bootstrap, stratified by task.",
        ),
    ]  # fmt: skip
    return [table for table in tables if table.rows]
