"""What a tracker is told of a trial: its name and group, and metrics in the namespaces train/, val/, test/, time/."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from bench.config.task import TaskConfig
from bench.jobs.tables import format_value, short_names
from bench.runs.identity import meaning_of
from bench.runs.trial import Trial
from bench.training.clock import PARTS
from bench.training.record import Row

SPLITS = ("train", "val", "test")
MAX_NAME = 128  # characters that wandb takes for a name or a group
DIGITS = 8  # more than float32 has; longer numbers would be half of a tracker's files
LEFT_OUT = {f"{part}_seconds" for part in ("step", *PARTS)}  # a run's own `metrics.parquet` has them


def name_metrics(row: Row, task: TaskConfig) -> dict[str, float]:
    """The finite values of a row in eight digits under their names in a tracker, and what follows from them.

    `train/samples` and `train/tokens` count what the trial has seen, `time/steps_per_second` is its throughput since
    the last row, shared among the trials of a pack; how a step's time is spent is left to the run's own files.
    """
    told = {_place(name): value for name, value in row.items() if name not in LEFT_OUT and math.isfinite(value)}
    if (seconds := row.get("step_seconds", math.nan)) > 0:
        told["time/steps_per_second"] = 1 / seconds
    return {name: float(f"{value:.{DIGITS}g}") for name, value in told.items()} | count_seen(row["step"], task)


def count_seen(step: float, task: TaskConfig) -> dict[str, float]:
    """How far a trial is at a step: in steps, and where the task has batches and contexts, in samples and tokens."""
    seen = {"train/step": step}
    if isinstance(batch_size := task.options.get("batch_size"), int):
        seen["train/samples"] = step * batch_size
        if isinstance(context := task.options.get("context"), int):
            seen["train/tokens"] = step * batch_size * context
    return seen


def _place(name: str) -> str:
    if name in ("lr", "step", "grad_norm"):
        return f"train/{name}"
    if name.endswith("_seconds"):
        return f"time/{name}"
    is_full = name.startswith("full_")
    split, _, metric = name.removeprefix("full_").partition("_")
    if split not in SPLITS:
        return name
    return f"{split}/full_{metric}" if is_full and split == "val" else f"{split}/{metric}"


def name_of(trial: Trial, name: str | None) -> str:
    """A trial's name: what was asked for, else optimizer and task; and the values that its sweep gives it."""
    start = name or f"{trial.config.optimizer.name}-{trial.config.task.name}"
    return " ".join([start, *_describe(trial.cell)])[:MAX_NAME]


def group_of(trial: Trial) -> str:
    """Equal exactly for trials that differ in their seed alone, so that a tracker averages over seeds."""
    meaning = json.dumps({**meaning_of(trial.config.mapping), "seed": None}, sort_keys=True, default=str)
    digest = hashlib.sha256(meaning.encode()).hexdigest()[:6]
    cell = {key: value for key, value in trial.cell.items() if key != "seed"}
    start = f"{trial.config.optimizer.name}-{trial.config.task.name}"
    return f"{' '.join([start, *_describe(cell)])[: MAX_NAME - 7]} {digest}"


def _describe(cell: Mapping[str, Any]) -> list[str]:
    return [f"{name}={format_value(cell[key], 4)}" for key, name in short_names(list(cell)).items()]
