"""The report's tables, from findings: what stands in each."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bench.analysis.findings import Findings
from bench.analysis.frames import each, groups
from bench.analysis.intervals import MIN_UNITS
from bench.errors import count_of
from bench.report.figures.style import format_number
from bench.report.sentences import interval_text
from bench.report.table import (
    MISSING,
    Format,
    Table,
    make_table,
    milliseconds,
    ratio,
    ratio_text,
    signed,
    significant,
    times,
)


def verdict_table(found: Findings) -> Table:
    """Every comparison in one line."""
    rows = list(each(found.verdicts))
    frame = found.verdicts.assign(
        effect=[effect(row) for row in rows],
        interval=[MISSING if math.isinf(row.low) else interval_text(row) for row in rows],
        units=[count_of(row.num_units, row.unit) for row in rows],
        p=[MISSING if row.num_units < MIN_UNITS else f"{row.p_holm:.2g}" for row in rows],
        failures=[_failures(row) for row in rows],
    )
    columns = {
        "setting": "task", "optimizer": "optimizer", "baseline": "against", "verdict": "verdict", "effect": "loss ×",
        "interval": "95 % interval", "units": "paired", "p": "p (Holm)", "failures": "failures",
    }  # fmt: skip
    splits = " and ".join(sorted({row.split for row in rows})) or "test"
    note = (
        f"Ratio of final {splits} losses to the baseline's, geometric mean over pairs that succeeded; below 1 is "
        "better. Practically the same: the interval lies within the task's margin. Failures: of the optimizer's and of "
        "the baseline's searches or seeds."
    )
    return make_table(frame, columns, title="Comparisons with the baseline", note=note)


def effect(row: Any) -> str:
    """The ratio of losses, or their difference where they have no logarithm."""
    if math.isnan(row.difference):
        return MISSING
    return ratio_text(row.difference) if row.scale == "log" else signed(row.difference)


def _failures(row: Any) -> str:
    if math.isnan(row.failed_of):
        return MISSING
    counts = f"{row.failed:g}/{row.failed_of:g} and {row.baseline_failed:g}/{row.baseline_failed_of:g}"
    return f"{counts}: {row.failure_verdict}" if row.failure_verdict else counts


def speed_table(found: Findings) -> Table:
    """Steps to the target and what they cost, as ratios to the baseline."""
    reached = found.times.groupby(["setting", "optimizer"]).agg(
        steps=("steps_to_target", "median"), seeds=("seed", "size"),
        reached=("steps_to_target", lambda steps: int((steps < math.inf).sum())),
    )  # fmt: skip
    frame = found.costs.merge(reached.reset_index(), on=["setting", "optimizer"], how="inner")
    frame = frame.merge(found.speedups, on=["setting", "optimizer"], how="left")
    frame["reached"] = [f"{row.reached} of {row.seeds}" for row in each(frame)]
    frame["seconds_text"] = [
        MISSING if math.isnan(row.steps_ratio) else times(row.seconds_ratio) for row in each(frame)
    ]
    for name in ("steps", "seconds"):
        frame[f"{name}_interval"] = [
            MISSING if math.isnan(low) else f"{format_number(low)} to {format_number(high)}"
            for low, high in zip(frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
        ]
    columns = {
        "setting": "task", "optimizer": "optimizer", "reached": "runs that arrive", "steps": "median steps",
        "steps_ratio": "steps ×", "steps_interval": "95 % interval", "step_seconds": "ms per step",
        "seconds_text": "seconds ×", "seconds_interval": "95 % interval of seconds",
    }  # fmt: skip
    note = (
        "Each run's own first evaluation at or past the target; missed counts as infinite in the median. Ratios to the "
        "baseline, geometric means over pairs that both arrive; an interval only where nobody misses, "
        "as wide as the evaluations leave it, between which a run crosses the target. "
        "Seconds: steps × the cost of a step, which only interleaved rounds of `python -m bench.times` may tell."
    )
    formats: dict[str, Format] = {"step_seconds": milliseconds, "steps_ratio": ratio}
    return make_table(frame, columns, title="Time to target", note=note, formats=formats)


def cell_table(found: Findings) -> Table:
    """The hyperparameters that each optimizer was judged with."""
    varying = varying_keys(found.used)
    keys = ["setting", "optimizer", "replicate"]
    final = found.final.groupby(keys).agg(
        loss=("judged_loss", "median"), accuracy=("final_val_accuracy", "median"), seeds=("seed", "nunique"),
        diverged=("status", lambda status: int((status == "diverged").sum())),
    )  # fmt: skip
    frame = found.chosen.merge(final.reset_index(), on=keys, how="left")
    frame["hyperparameters"] = [
        describe_cell(json.loads(row.cell), varying[row.setting, row.optimizer] or {"optimizer.lr"})
        for row in each(frame)
    ]
    columns = {
        "setting": "task",
        "optimizer": "optimizer",
        "replicate": "search",
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
    if not frame["replicate"].any():
        del columns["replicate"]
    note = (
        "Chosen by the lowest mean final validation loss over the tuning seeds; the loss shown is the one that "
        "verdicts compare. Only keys that some run varied are shown."
    )
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


def describe_cell(cell: Mapping[str, object], keys: Iterable[str]) -> str:
    """lr=0.001 eps=1e-8, for the keys that matter."""
    named = [(key.removeprefix("optimizer."), cell[key]) for key in sorted(keys) if key in cell]
    return " ".join(f"{key}={format_number(value) if isinstance(value, float) else value}" for key, value in named)
