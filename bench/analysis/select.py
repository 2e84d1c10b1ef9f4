"""A part of what was loaded: some optimizers, some tasks, some values of a hyperparameter."""

import json
import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from bench.analysis.load import Loaded
from bench.errors import did_you_mean

SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "=": operator.eq,
}  # fmt: skip
COLUMNS = {
    "optimizer.name": "optimizer",
    "task.name": "task",
    **{f"task.{name}": name for name in ("steps", "batch_size", "eval_every", "loss_scale")},
    **{f"task.target.{name}": f"target_{name}" for name in ("metric", "value", "mode")},
}  # keys of the configuration that have a column of another name
CONDITION = re.compile(r"(?P<key>[\w.]+)\s*(?P<sign><=|>=|!=|<|>|=)\s*(?P<value>\S+)")


def select(
    loaded: Loaded, *, optimizers: Sequence[str] = (), tasks: Sequence[str] = (), where: Sequence[str] = ()
) -> Loaded:
    """Keeps the runs that fit; no names and no conditions keep all.

    Args:
        loaded: From `load.load`.
        optimizers, tasks: Names, or several with commas between them.
        where: Conditions that must all hold, `KEY<=VALUE` with one of `SIGNS`; keys are those of the configuration,
            such as `optimizer.lr`, `task.steps` or `seed`, and the columns of `runs`.

    Raises:
        ValueError: a name or key that no run has, a condition of another form, or nothing is left.
    """
    runs = loaded.runs
    if runs.empty:
        return loaded
    for column, asked in (("optimizer", optimizers), ("task", tasks)):
        known = set(runs[column])
        names = [name for text in asked for name in ([text] if text in known else text.split(","))]
        if missing := sorted(set(names) - known):
            raise ValueError(f"no {column} {missing[0]!r} in these runs (there are: {', '.join(sorted(known))})")
        runs = runs[runs[column].isin(names)] if names else runs
    for text in where:
        runs = runs[_holds(loaded.runs, text)[runs.index]]
    if runs.empty:
        raise ValueError(f"no run is left of {len(loaded.runs)} by {' and '.join(where) or 'these names'}")
    return replace(loaded, runs=runs)


def _holds(runs: pd.DataFrame, text: str) -> pd.Series:
    match = CONDITION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"condition {text!r} is not of the form KEY<=VALUE, with <=, >=, <, >, = or !=")
    key, compare = match["key"], SIGNS[match["sign"]]
    values = list(runs[key]) if key in runs else [options.get(key) for options in _configurations(runs)]
    if all(value is None for value in values):
        names = {name for options in _configurations(runs) for name in options}
        keys = sorted(names, key=lambda name: (name.startswith("optimizer."), name))  # of a zoo the longest part
        raise ValueError(f"no run has {key!r}{did_you_mean(key, keys)} (there are: {', '.join(keys)})")
    return pd.Series([_compare(compare, value, match["value"]) for value in values], index=runs.index)


def _configurations(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """What each run was asked for, by dotted keys."""
    named = zip(*(runs[column] for column in COLUMNS.values()), strict=True)
    parts = zip(runs["options"], runs["hyperparameters"], runs["task_options"], named, strict=True)
    for options, hyperparameters, task_options, values in parts:
        yield {**options, **hyperparameters, **json.loads(task_options), **dict(zip(COLUMNS, values, strict=True))}


def _compare(compare: Callable[[Any, Any], bool], value: Any, wanted: str) -> bool:
    """By number where both are numbers, else by text; a run without the key fits nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    try:
        return compare(float(value), float(wanted))
    except (TypeError, ValueError):
        return compare(str(value), wanted)
