"""Stored trials trained again, and what comes out otherwise than it is stored.

This imports and calls what a config names: the sources of its targets are first compared with the run's fingerprint.
"""

import math
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.config.schema import TrialConfig
from bench.errors import ConfigError, shorten
from bench.runs.environment import describe_environment
from bench.runs.folders import read_rows, read_run
from bench.runs.identity import code_fingerprint
from bench.runs.schema import Environment, Run
from bench.training.components import Task, TaskShelf, build_schedule
from bench.training.interrupt import StopSignal
from bench.training.record import Row
from bench.training.routing import check_optimizer
from bench.training.train import train
from bench.verify.folder import Checked

TOLERANCE = 0.05  # of a column's largest value, between machines
MACHINE = ("torch", "python", "platform", "device_name", "num_threads")


class CannotReplayError(Exception):
    """A trial cannot be trained as it was. Its text is one line that says why."""


@dataclass(frozen=True)
class Replay:
    """A trial trained again.

    Attributes:
        precision: how its figures were compared, in words.
        differences: one line per column that differs.
    """

    precision: str
    differences: Sequence[str]


def choose(checked: Sequence[Checked], count: int, seed: int) -> list[Path]:
    """The folders of at most `count` whole runs that ended by themselves, the same ones for the same seed."""
    ended = [one.folder for one in checked if not one.faults and one.status in ("completed", "reached", "diverged")]
    return random.Random(seed).sample(ended, min(count, len(ended)))


def replay(folder: Path, tasks: TaskShelf) -> Replay:
    """Train a whole run again and compare all columns but times. Raises CannotReplayError."""
    run = read_run(folder)
    config, task = _prepare(run, tasks)
    if 1 <= run.environment.num_threads <= (os.cpu_count() or 1):
        torch.set_num_threads(run.environment.num_threads)
    reasons = _find_reasons_for_rounding(run.environment, config.device)
    trial = config.model_copy(update={"timeout": None})
    # A trial is bitwise the same in any pack, of which two copies are the smallest.
    record = train([trial] * min(run.pack.size, 2), task, [], StopSignal())[0]
    differences = list(_compare(read_rows(run), record.rows, TOLERANCE if reasons else None))
    if record.status != run.status:
        differences.insert(0, f"status: stored {run.status}, now {record.status} ({record.message})")
    close = f"within {TOLERANCE:g} of each column's largest value, since it rounds otherwise: {', '.join(reasons)}"
    return Replay(close if reasons else "bit by bit", differences)


def _prepare(run: Run, tasks: TaskShelf) -> tuple[TrialConfig, Task]:
    """The run's configuration and task, if code and data are the ones that trained it."""
    try:
        config = run.trial()
        code = code_fingerprint(config)
        if code == run.fingerprint.code:
            task = tasks.get(config.task, config.device)
            check_optimizer(config.optimizer)
            build_schedule(config.schedule, config.task.steps)
    except ConfigError as error:
        raise CannotReplayError(str(error)) from error
    except Exception as error:  # foreign code: whatever it raises is told in one line
        raise CannotReplayError(f"{type(error).__name__}: {error}") from error
    if code != run.fingerprint.code:
        raise CannotReplayError("trained by another version of the code")
    if task.fingerprint != run.fingerprint.data:
        raise CannotReplayError("trained on other data")
    return config, task


def _find_reasons_for_rounding(there: Environment, device: str) -> list[str]:
    """Why the same training may round otherwise here than it did there; empty where it must not."""
    here = describe_environment(device)
    pairs = {key: (getattr(there, key), getattr(here, key)) for key in MACHINE}
    reasons = [f"{key} was {shorten(old)}, is {now}" for key, (old, now) in pairs.items() if old != now]
    return reasons + (["a GPU"] if here.device != "cpu" else [])


def _compare(stored: Sequence[Row], now: Sequence[Row], tolerance: float | None) -> Iterator[str]:
    """The first difference of each column, times apart: bit by bit, or within `tolerance` of its largest value."""
    if len(stored) != len(now):
        yield f"{len(stored)} rows stored, {len(now)} now"
    names = {name for rows in (stored, now) for row in rows for name in row if not name.endswith("_seconds")}
    for name in ("step", *sorted(names - {"step"})):
        values = [(row.get(name, math.nan), new.get(name, math.nan)) for row, new in zip(stored, now, strict=False)]
        largest = max((abs(old) for old, _ in values if math.isfinite(old)), default=0.0)
        margin = None if tolerance is None else tolerance * largest
        wrong = [position for position, (old, new) in enumerate(values) if not _are_equal(old, new, margin)]
        if wrong:
            (old, new), later = values[wrong[0]], f", and {len(wrong) - 1} later rows" if len(wrong) > 1 else ""
            yield f"{name} at step {stored[wrong[0]]['step']:.0f}: stored {old!r}, now {new!r}{later}"


def _are_equal(old: float, new: float, margin: float | None) -> bool:
    if margin is None or not (math.isfinite(old) and math.isfinite(new)):
        return float(old).hex() == float(new).hex()
    return abs(old - new) <= margin
