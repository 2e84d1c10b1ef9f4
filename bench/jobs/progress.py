"""What the user sees: live progress on stderr, tables on stdout."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor

from bench.runs.schema import Run
from bench.training.record import Record, Row

REFRESH_SECONDS = 0.25  # between updates of a live bar
PLAIN_SECONDS = 5.0  # between lines where the output is not a terminal
MAX_LINE = 70


@dataclass(frozen=True)
class Glimpse:
    """Where the training of a pack is: steps of all its trials together, their median loss, a learning rate."""

    num_steps: int
    loss: float
    lr: float

    @classmethod
    def of(cls, records: Sequence[Record], step: int, losses: Tensor) -> Self:
        """What a watcher of the training loop sees at a step."""
        return cls(step * len(records), losses.float().nanmedian().item(), records[0].rows[-1]["lr"])


class Display:
    """Progress over all trials of a job, counted in trial-steps: a bar on a terminal, plain lines elsewhere.

    Args:
        steps: the budget of every trial that will be trained, by run id.
        label: what they are, the first words of every line.
    """

    def __init__(self, steps: Mapping[str, int], label: str) -> None:
        self.label = label
        self.console = Console(stderr=True)
        self.pause = REFRESH_SECONDS if self.console.is_terminal else PLAIN_SECONDS
        self.steps, self.num_trials, self.total_steps = steps, len(steps), sum(steps.values())
        self.done_steps, self.shown_steps, self.num_done, self.num_diverged = 0, 0, 0, 0
        self._glimpses: dict[int, Glimpse] = {}  # by worker
        self._started = self._shown = time.perf_counter()
        columns = (TextColumn("{task.description}"), BarColumn(None))  # the bar fills what the text leaves
        terminal = self.console.is_terminal
        self.progress = Progress(*columns, console=self.console, disable=not terminal, transient=True, expand=True)
        self._bar = self.progress.add_task("", total=self.total_steps)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def on_step(self, records: Sequence[Record], step: int, losses: Tensor) -> None:
        if time.perf_counter() - self._shown >= self.pause:
            self.glimpsed(0, Glimpse.of(records, step, losses))

    def glimpsed(self, worker: int, glimpse: "Glimpse | None") -> None:
        """Keep where a worker's pack is, and show it when it is time; None once the pack has ended."""
        self._glimpses.pop(worker, None)
        if glimpse is None:
            return
        self._glimpses[worker] = glimpse
        now = time.perf_counter()
        if now - self._shown >= self.pause:
            loss = f"{glimpse.loss:.3g}"
            detail = f"median loss {loss}" if self.num_trials > 1 else f"train_loss {loss}, lr {glimpse.lr:.3g}"
            self._show(now, self.done_steps + sum(each.num_steps for each in self._glimpses.values()), detail)

    def on_row(self, record: Record, row: Row) -> None:
        """Rows are shown in the tables."""

    def trial_ended(self, run: Run) -> None:
        """Count a run that is finished, wherever it was trained."""
        if run.status == "interrupted":
            return
        self.num_done += 1
        self.num_diverged += run.status == "diverged"
        self.done_steps += self.steps[run.run_id]
        now = time.perf_counter()
        if self.num_trials > 1 and (self.num_done == self.num_trials or now - self._shown > self.pause):
            self._show(now, self.done_steps, f"last one {run.status}")

    def _show(self, now: float, done_steps: int, detail: str) -> None:
        """A line with as much as fits, what matters most first."""
        self._shown = now
        done_steps = self.shown_steps = max(done_steps, self.shown_steps)  # the trials of a pack end one by one
        seconds = max(now - self._started, 1e-9)
        rate = done_steps / seconds
        left = _duration((self.total_steps - done_steps) / rate if rate else math.inf)
        is_over = self.num_done == self.num_trials
        parts = [f"took {_duration(seconds)}" if is_over else f"{left} left", detail, f"{_short(rate)} steps/s"]
        if self.num_diverged:
            parts.insert(2, f"{self.num_diverged} diverged")
        text = f"{self.label}: {self._count_done(done_steps)}"
        for part in parts:
            text += f", {part}" if len(f"{text}, {part}") <= MAX_LINE else ""
        if self.console.is_terminal:
            self.progress.update(self._bar, completed=done_steps, description=text)
        else:
            self.console.print(text, highlight=False, soft_wrap=True)

    def _count_done(self, done_steps: int) -> str:
        if self.num_trials == 1:
            return f"{done_steps / max(self.total_steps, 1):.0%}"
        return f"{self.num_done}/{self.num_trials} done"


def _duration(seconds: float) -> str:
    """In the unit that leaves the fewest digits: 54 s, 12 min, 15 h."""
    if not math.isfinite(seconds):
        return "?"
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.0f} h"
    )


def _short(count: float) -> str:
    """A count in at most three digits: 950, 7.1k."""
    return f"{count:.0f}" if count < 1000 else f"{count / 1000:.1f}k" if count < 10_000 else f"{count / 1000:.0f}k"
