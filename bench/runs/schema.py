"""The keys of a `run.json` and the types of their values, as results/README.md tells them."""

import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from bench.errors import shorten

MAX_FIGURE = sys.float_info.max
SHOWN_FIGURES = {
    "best_val_loss",
    "best_step",
    "steps_to_target",
    "seconds_to_target",
    "step_seconds",
    "optimizer_share",
    "train_seconds",
    "message",
}

SCHEMA_VERSION = 1

STATUSES = ("completed", "diverged", "timeout", "failed", "interrupted")

TEXT, INTEGER, NUMBER, OBJECT = "text", "a whole number", "a number or null", "an object"
TYPES: Mapping[str, Any] = {
    TEXT: str,
    INTEGER: int,
    NUMBER: int | float | None,
    OBJECT: dict,
    "true or false": bool,
    "text or null": str | None,
}
SWEEP = {"name": TEXT, "cell": OBJECT}
SCHEMA: Mapping[str, Any] = {
    "run_id": TEXT,
    "status": TEXT,
    "seed": INTEGER,
    "config": OBJECT,
    "fingerprint": {"data": TEXT, "code": TEXT},
    # all other figures of the summary are calculated from the rows again
    "summary": {
        "first_step_seconds": NUMBER,
        "alone_step_seconds": NUMBER,
        "num_parameters": INTEGER,
        "state_bytes": INTEGER,
        "message": "text or null",
    },
    "pack": {"size": INTEGER, "shared_timing": "true or false"},
    "environment": {
        **dict.fromkeys(("bench_version", "python", "torch", "platform", "device", "device_name", "time"), TEXT),
        **dict.fromkeys(("cuda", "git"), "text or null"),
        "num_threads": INTEGER,
    },
    "files": {"metrics.parquet": TEXT},
}


def find_schema_faults(run: Mapping[str, Any]) -> Iterator[str]:
    """One line per key of `run` that is missing or has another type than its schema says."""
    yield from _find_faults(run, SCHEMA, "")
    if "sweep" not in run:
        yield "sweep: missing"
    elif run["sweep"] is not None:
        yield from _find_faults({"sweep": run["sweep"]}, {"sweep": SWEEP}, "")


def _find_faults(value: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, expected in schema.items():
        name = f"{path}{key}"
        nested = isinstance(expected, Mapping)
        if key not in value:
            yield f"{name}: missing"
        elif not _has_type(value[key], OBJECT if nested else expected):
            yield f"{name}={shorten(value[key])}: expected {OBJECT if nested else expected}"
        elif nested:
            yield from _find_faults(value[key], expected, f"{name}.")


def _has_type(value: Any, expected: str) -> bool:
    kind = TYPES[expected]
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def number(value: object) -> float:
    """`value` as a float, NaN where it is no number (JSON has neither NaN nor inf: null stands for both)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def is_summary(value: Any) -> bool:
    """Whether this, read from a file, can be shown and ranked as a `Record.summary`."""
    if not isinstance(value, Mapping) or not set(value) >= SHOWN_FIGURES:
        return False
    figures = [figure for name, figure in value.items() if name != "message" and figure is not None]
    plain = all(isinstance(figure, int | float) and -MAX_FIGURE <= figure <= MAX_FIGURE for figure in figures)
    return plain and isinstance(value["message"], str | None)
