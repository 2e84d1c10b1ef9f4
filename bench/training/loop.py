"""The training loop: one, for one trial and for many. The clock stops while it evaluates."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from bench.training.checkpoint import Checkpoint, State
from bench.training.clock import PARTS, StepClock
from bench.training.interrupt import StopSignal
from bench.training.learner import Learner
from bench.training.memory import peak_memory_bytes, reset_peak_memory
from bench.training.record import Record, Row

FINITE_STEPS = "finite_steps"  # how many training losses since the last row were finite until one was not


def _fetch(metrics: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Tensors [K] as lists, through one copy from the device however many there are."""
    table = torch.stack([values.double() for values in metrics.values()]).tolist()
    return dict(zip(metrics, table, strict=True))


class Watcher(Protocol):
    """Whoever wants to see the training live."""

    def on_step(self, records: Sequence[Record], step: int, losses: Tensor) -> None: ...
    def on_row(self, record: Record, row: Row) -> None: ...


class TrainingLoop:
    """Trains the trials of one learner to the end of their budget.

    Args:
        learner: one trial, or several that step together.
        records: one per trial; filled while training, each left with its final status. The learner has those that run.
        schedule: the factor on every lr, by 1-based step.
        watchers: told of every step and of every row.
        stop: checked at every step.
        checkpoint: where the state is saved when it is due and at a stop, if anywhere.
        keep_weights: whether records keep the final weights.
    """

    def __init__(
        self,
        learner: Learner,
        records: Sequence[Record],
        schedule: Callable[[int], float],
        watchers: Sequence[Watcher],
        stop: StopSignal,
        checkpoint: Checkpoint | None,
        *,
        keep_weights: bool,
    ) -> None:
        trial = records[0].trial
        self.learner, self.schedule, self.watchers, self.stop = learner, schedule, watchers, stop
        self.records, self.checkpoint, self.keep_weights = records, checkpoint, keep_weights
        self.living = [record for record in records if record.status == "running"]
        self.device = torch.device(trial.device)
        self.num_steps, self.eval_every = trial.task.steps, trial.task.eval_every
        self.diagnostics = trial.diagnostics
        self.timeout = math.inf if trial.timeout is None else trial.timeout
        self.clock = StepClock(self.device)
        self.step, self.last_row_step = 0, 0
        self.train_seconds, self.elapsed_before = 0.0, 0.0
        self.parts = dict.fromkeys(PARTS, 0.0)
        self.losses: list[Tensor] = []

    def run(self) -> None:
        """Train until every trial has ended: budget spent, target reached, diverged, out of time, or asked to stop."""
        self.started = time.perf_counter()
        reset_peak_memory(self.device)
        if not self.step:
            self._evaluate(dict.fromkeys(PARTS, math.nan))
            self._publish()
        self._resume_clock()
        while self.living:
            self._take_step()
            status = self._status()
            if status != "running" or self.step % self.eval_every == 0:
                self._end_interval(status)
            if self.living:
                self._heed_stop_and_checkpoint()

    def _heed_stop_and_checkpoint(self) -> None:
        stopped = self.stop.number is not None
        if self.checkpoint is not None and (stopped or self.checkpoint.is_due(self.step)):
            self._collect_seconds()
            self.checkpoint.save(self.state())
            self._resume_clock()
        if stopped:
            for record in self.living:
                record.status = "interrupted"
            self.living = []

    def state(self) -> State:
        """All that `restore` needs for going on as if nothing had happened, between two steps."""
        return {
            "step": self.step,
            "last_row_step": self.last_row_step,
            "train_seconds": self.train_seconds,
            "elapsed_seconds": self._elapsed_seconds(),
            "parts": self.parts,
            "losses": self.losses,
            "records": [record.state() for record in self.records],
            "learner": self.learner.state(),
        }

    def restore(self, state: State) -> None:
        """Go on from `state`; the records have theirs already, and the learner holds the trials that still run."""
        self.step, self.last_row_step = state["step"], state["last_row_step"]
        self.train_seconds, self.elapsed_before = state["train_seconds"], state["elapsed_seconds"]
        self.parts = dict(state["parts"])
        self.losses = [losses.to(self.device) for losses in state["losses"]]
        self.learner.restore(state["learner"])
        for record in self.records:
            for row in record.rows:
                for watcher in self.watchers:
                    watcher.on_row(record, row)

    def _take_step(self) -> None:
        self.step += 1
        losses = self.learner.step(self.schedule(self.step), self.clock)
        self.clock.end_step()
        self.losses.append(losses)
        if self.step == 1:
            self._end_first_step()
        for watcher in self.watchers:
            watcher.on_step(self.living, self.step, losses)

    def _end_first_step(self) -> None:
        """Keep the first step, which pays for warming up, out of the means of the others."""
        seconds = sum(self.clock.read().values())
        self.train_seconds += seconds
        for record in self.living:
            record.first_step_seconds = seconds
            record.num_parameters, record.state_bytes = self.learner.num_parameters, self.learner.state_bytes()
        self._resume_clock()

    def _status(self) -> str:
        if self.step == self.num_steps:
            return "completed"
        train_seconds = self.train_seconds + time.perf_counter() - self.resumed
        return "timeout" if train_seconds >= self.timeout else "running"

    def _collect_seconds(self) -> None:
        """Account what the clock has measured; it stands still until it is resumed."""
        for part, seconds in self.clock.read().items():
            self.parts[part] += seconds
            self.train_seconds += seconds

    def _elapsed_seconds(self) -> float:
        return self.elapsed_before + time.perf_counter() - self.started

    def _resume_clock(self) -> None:
        self.resumed = time.perf_counter()
        self.clock.start()

    def _end_interval(self, status: str) -> None:
        """Close the interval since the last row with a new row; let trials that have diverged or ended go."""
        self._collect_seconds()
        num_timed = self.step - max(self.last_row_step, 1)
        self._evaluate({part: seconds / num_timed if num_timed else math.nan for part, seconds in self.parts.items()})
        self.last_row_step, self.losses, self.parts = self.step, [], dict.fromkeys(PARTS, 0.0)
        if status != "running" or any(record.status != "running" for record in self.living):
            self._evaluate_fully(status)
        peak = peak_memory_bytes(self.device)
        for record in self.living:
            record.peak_memory_bytes = peak
            record.status = status if record.status == "running" else record.status
        self._publish()
        self._drop_ended()
        self._resume_clock()

    def _evaluate(self, parts: dict[str, float]) -> None:
        metrics = dict(self.learner.evaluate("val", full=False))
        if self.diagnostics and self.step:
            metrics |= self.learner.diagnose()
        if self.learner.grad_norm is not None:
            metrics["grad_norm"] = self.learner.grad_norm
        if self.losses:
            losses = torch.stack(self.losses)
            metrics["train_loss"] = losses.double().mean(0)
            metrics[FINITE_STEPS] = losses.isfinite().int().cumprod(0).sum(0)
        columns = {"train_loss": [math.nan] * len(self.living), **_fetch(metrics)}
        finite_steps = columns.pop(FINITE_STEPS, [])
        factor = self.schedule(max(self.step, 1))
        shared = {
            "step": float(self.step),
            "train_seconds": self.train_seconds,
            "elapsed_seconds": self._elapsed_seconds(),
            "step_seconds": sum(parts.values()),
            **{f"{part}_seconds": seconds for part, seconds in parts.items()},
        }
        for position, record in enumerate(self.living):
            row = {**shared, **{name: values[position] for name, values in columns.items()}}
            row["lr"] = float(record.trial.optimizer.hyperparameters.get("lr", math.nan)) * factor
            record.rows.append(row)
            if self.losses:
                record.judge(self.last_row_step + int(finite_steps[position]))

    def _evaluate_fully(self, status: str) -> None:
        """Complete the last rows of the trials that end here: of all, unless `status` is `running`.

        The only time that the test split is read.
        """
        metrics = {**self.learner.evaluate("val", full=True), **self.learner.evaluate("test", full=True)}
        full = {f"full_{name}": values for name, values in _fetch(metrics).items()}
        weights = self.learner.final_weights() if self.keep_weights else {}
        for position, record in enumerate(self.living):
            if status != "running" or record.status != "running":
                record.rows[-1].update({name: values[position] for name, values in full.items()})
                if self.keep_weights:
                    record.weights = {name: tensor[position].to("cpu", copy=True) for name, tensor in weights.items()}

    def _publish(self) -> None:
        for record in self.living:
            for watcher in self.watchers:
                watcher.on_row(record, record.rows[-1])

    def _drop_ended(self) -> None:
        positions = [position for position, record in enumerate(self.living) if record.status == "running"]
        if 0 < len(positions) < len(self.living):
            self.learner.keep(positions)
        self.living = [self.living[position] for position in positions]
