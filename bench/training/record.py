"""What is known of a trial while it trains and after: its rows, its status, its summary."""

import math
import statistics
from dataclasses import dataclass, field, fields
from typing import Any

from bench.config.schema import Target, TrialConfig
from bench.training.clock import PARTS

FINISHED = ("completed", "diverged", "timeout")
Row = dict[str, float]


@dataclass
class Record:
    """One trial's measurements, one row per evaluation.

    Attributes:
        status: `running`, then one of `completed`, `diverged`, `timeout`, `failed`, `interrupted`.
        pack_size: how many trials trained together at the start.
        alone_step_seconds: what a step costs alone, measured apart, where the time of a step was shared in a pack.
    """

    trial: TrialConfig
    rows: list[Row] = field(default_factory=list)
    status: str = "running"
    message: str | None = None
    pack_size: int = 1
    first_step_seconds: float = math.nan
    alone_step_seconds: float | None = None
    num_parameters: int = 0
    state_bytes: int = 0

    def state(self) -> dict[str, Any]:
        """Everything but the trial, as plain values; `Record(trial, **state)` is the same record."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "trial"}

    def summary(self) -> dict[str, Any]:
        """The figures that stand in `run.json`; never reached is inf, not measured is NaN."""
        target_row = first_at_target(self.rows, self.trial.task.target)
        last = self.rows[-1] if self.rows else {}
        measured = [row for row in self.rows if math.isfinite(row["val_loss"])]
        best = min(measured, key=lambda row: row["val_loss"], default={})
        metrics = [name for name in last if name.startswith("full_")]
        return {
            "num_steps": int(last.get("step", 0)),
            "initial_val_loss": self.rows[0]["val_loss"] if self.rows else math.nan,
            **{f"final_{name.removeprefix('full_')}": last[name] for name in metrics},
            "best_val_loss": best.get("val_loss", math.nan),
            "best_step": int(best.get("step", 0)),
            "steps_to_target": target_row["step"] if target_row else math.inf,
            "seconds_to_target": self._seconds_to(target_row),
            "seconds_to_target_derived": self.pack_size > 1,
            "train_seconds": last.get("train_seconds", 0.0),
            "elapsed_seconds": last.get("elapsed_seconds", 0.0),
            **self._timing(),
            "num_parameters": self.num_parameters,
            "state_bytes": self.state_bytes,
            "samples_per_step": self.trial.task.options.get("batch_size"),
            "message": self.message,
        }

    def _seconds_to(self, row: Row | None) -> float:
        if row is None:
            return math.inf
        if self.pack_size == 1:
            return row["train_seconds"]
        return math.nan if self.alone_step_seconds is None else row["step"] * self.alone_step_seconds

    def _timing(self) -> dict[str, float]:
        steady = [row for row in self.rows if math.isfinite(row["step_seconds"])]
        parts = {part: sum(row[f"{part}_seconds"] for row in steady) for part in PARTS}
        total = sum(parts.values())
        return {
            "step_seconds": statistics.median(row["step_seconds"] for row in steady) if steady else math.nan,
            "first_step_seconds": self.first_step_seconds,
            "alone_step_seconds": math.nan if self.alone_step_seconds is None else self.alone_step_seconds,
            "optimizer_share": parts["optimizer"] / total if total else math.nan,
        }


def first_at_target(rows: list[Row], target: Target) -> Row | None:
    """The first row whose metric has reached the target, by step and not by index."""
    reached = (row for row in rows if target.is_met(row.get(target.metric, math.nan)))
    return min(reached, key=lambda row: row["step"], default=None)
