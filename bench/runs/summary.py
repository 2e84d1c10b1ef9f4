"""The figures of a run: what follows from its rows, and what was measured beside them."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

import numpy as np
from pydantic import ConfigDict, Field

from bench.config.validation import Strict, allowed
from bench.runs.crossings import first_crossings
from bench.training.clock import PARTS
from bench.training.record import Record, Row

Figure = Annotated[float | None, allowed("a number or null")]
"""A finite number, or None for what JSON cannot hold: never reached, or not measured."""
Count = Annotated[int, Field(ge=0, lt=2**63), allowed("a whole number from 0")]


class Summary(Strict):
    """The figures of a run, calculated from its rows; losses without the task's `loss_scale`, times in seconds.

    The task's metrics at the end of the training are open: `final_<metric>` for every metric that the last full
    evaluation measured. `figures` has them all by name.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Figure]

    num_steps: Count
    initial_val_loss: Figure
    final_val_loss: Figure = None
    best_val_loss: Figure
    best_step: Count
    steps_to_target: Figure
    seconds_to_target: Figure
    seconds_to_target_derived: bool
    train_seconds: Figure
    elapsed_seconds: Figure
    step_seconds: Figure
    first_step_seconds: Figure
    alone_step_seconds: Figure
    optimizer_share: Figure
    num_parameters: Count
    state_bytes: Count
    peak_memory_bytes: Figure = None
    samples_per_step: Figure = None
    message: str | None

    @classmethod
    def from_record(cls, record: Record) -> Self:
        """The figures that follow from a trial's rows and from what was measured beside them."""
        rows, last = record.rows, record.rows[-1] if record.rows else {}
        measured = [row for row in rows if math.isfinite(row["val_loss"])]
        best = min(measured, key=lambda row: row["val_loss"], default={})
        finals = {f"final_{name.removeprefix('full_')}": last[name] for name in last if name.startswith("full_")}
        steps, seconds = time_to_target(record)
        figures = {
            "num_steps": int(last.get("step", 0)),
            "initial_val_loss": rows[0]["val_loss"] if rows else None,
            **finals,
            "best_val_loss": best.get("val_loss"),
            "best_step": int(best.get("step", 0)),
            "steps_to_target": steps,
            "seconds_to_target": seconds,
            "seconds_to_target_derived": record.pack_size > 1,
            "train_seconds": last.get("train_seconds", 0.0),
            "elapsed_seconds": last.get("elapsed_seconds", 0.0),
            **_timing(rows),
            "first_step_seconds": record.first_step_seconds,
            "alone_step_seconds": record.alone_step_seconds,
            "num_parameters": record.num_parameters,
            "state_bytes": record.state_bytes,
            "peak_memory_bytes": record.peak_memory_bytes,
            "samples_per_step": record.trial.task.options.get("batch_size"),
            "message": record.message,
        }
        return cls.model_validate({name: _finite(value) for name, value in figures.items()})

    @property
    def figures(self) -> Mapping[str, float | None]:
        """Every number by name, the task's own metrics among them."""
        return {name: value for name, value in self.model_dump().items() if name != "message"}


def time_to_target(record: Record) -> tuple[float, float]:
    """Steps and seconds to the target: inf where it was missed, NaN seconds where no clock of its own ran."""
    target = record.trial.task.target
    values, steps, seconds = (
        np.array([row.get(name, math.nan) for row in record.rows]) for name in (target.metric, "step", "train_seconds")
    )
    limit = np.array([target.value])
    first_step = float(first_crossings(values, steps, limit, target.mode)[0])
    if record.pack_size == 1 or math.isinf(first_step):
        return first_step, float(first_crossings(values, seconds, limit, target.mode)[0])
    return first_step, math.nan if record.alone_step_seconds is None else first_step * record.alone_step_seconds


def _timing(rows: Sequence[Row]) -> dict[str, float | None]:
    steady = [row for row in rows if math.isfinite(row["step_seconds"])]
    parts = {part: sum(row[f"{part}_seconds"] for row in steady) for part in PARTS}
    total = sum(parts.values())
    return {
        "step_seconds": float(np.median([row["step_seconds"] for row in steady])) if steady else None,
        "optimizer_share": parts["optimizer"] / total if total else None,
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
