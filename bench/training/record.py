"""What is known of a trial while it trains and after: its rows and its status."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from torch import Tensor

from bench.config.schema import TrialConfig

FINISHED = ("completed", "reached", "diverged", "timeout")
Row = dict[str, float]


@dataclass
class Record:
    """One trial's measurements, one row per evaluation.

    Attributes:
        status: `running`, then one of `completed`, `reached` (stopped at its target, as it was asked to), `diverged`,
            `timeout`, `failed`, `interrupted`.
        pack_size: how many trials trained together at the start.
        alone_step_seconds: what a step costs alone, measured apart, where the time of a step was shared in a pack.
        weights: the model's final parameters and buffers by name, on the CPU, where they were asked for.
        peak_memory_bytes: the most that tensors have held on the GPU at once, with all trials of the pack.
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
    peak_memory_bytes: int | None = None
    weights: Mapping[str, Tensor] | None = None

    def state(self) -> Mapping[str, object]:
        """Everything but the trial, as tensors and plain values; `Record(trial, **state)` is the same record."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "trial"}

    def judge(self, last_finite_step: int) -> None:
        """End it, by its newest row, where it has diverged or reached the target at which it is to stop.

        It has diverged at a non-finite loss, or one beyond `diverge_factor` times the initial one.

        Args:
            last_finite_step: up to which step all training losses were finite.
        """
        row, step = self.rows[-1], int(self.rows[-1]["step"])
        limit = self.trial.diverge_factor * abs(self.rows[0]["val_loss"])
        if last_finite_step < step:
            self.message = f"the training loss became non-finite at step {last_finite_step + 1}"
        elif not math.isfinite(row["val_loss"]):
            self.message = f"the validation loss became non-finite by step {step}"
        elif row["val_loss"] > limit:
            self.message = (
                f"the validation loss passed {limit:.4g}, {self.trial.diverge_factor:g} times the initial one"
            )
        if self.message:
            self.status = "diverged"
            hint = self.trial.optimizer.divergence_hint
            self.message += f"; {hint}" if hint else ""
        elif self.trial.stop_at_target:
            target = self.trial.task.target
            if any(target.is_met(row[target.metric]) for row in self.rows):
                self.status = "reached"
