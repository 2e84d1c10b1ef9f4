"""What our training loop costs over a bare PyTorch loop of the same model, batches and optimizer.

    python scripts/loop_overhead.py [--repeats 15] [--steps 100] [--device cpu] [--out results/reference/loop_overhead]

Both train the same trial in turn, each from its beginning, and every step is timed from outside, from the end of the
one before to its own end; evaluations lie outside. A repeat counts with its mean step, the table with the median
repeat, the ratio with the median of the ratios of neighbouring repeats.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from common import compose_plan
from torch import Tensor

from bench.errors import count_of
from bench.runs.environment import describe_environment
from bench.runs.trial import Trial
from bench.training.components import Task
from bench.training.interrupt import StopSignal
from bench.training.model import build_model
from bench.training.record import Record, Row
from bench.training.routing import RoutedOptimizer
from bench.training.seeds import make_generator
from bench.training.train import train

CASES = [(task, optimizer) for task in ("mlp", "gpt_nano") for optimizer in ("adamw", "adamuon")]
NUM_WARMUP = 10  # steps at the beginning of every repeat that do not count
GOAL = 1.05


@dataclass
class Stopwatch:
    """Notes when steps end: a watcher of our loop, and called by hand in the bare one."""

    ends: list[float] = field(default_factory=list)

    def on_step(self, records: Sequence[Record], step: int, losses: Tensor) -> None:
        self.ends.append(time.perf_counter())

    def on_row(self, record: Record, row: Row) -> None:
        """Rows are of no interest here."""

    def mean_step(self) -> float:
        """Seconds per step after the warm-up."""
        return (self.ends[-1] - self.ends[NUM_WARMUP - 1]) / (len(self.ends) - NUM_WARMUP)


def make_trial(task: str, optimizer: str, args: argparse.Namespace) -> tuple[Trial, Task]:
    """A trial with an evaluation before its first step and one after its last."""
    short = [f"task.steps={args.steps}", f"task.eval_every={args.steps}"]
    plan = compose_plan(f"task={task}", f"optimizer={optimizer}", f"device={args.device}", *short)
    (trial,) = plan.trials
    return trial, plan.tasks.get(trial.config.task, trial.config.device)


def train_ours(trial: Trial, task: Task) -> float:
    """Seconds per step of our loop."""
    watch = Stopwatch()
    (record,) = train([trial.config], task, [watch], StopSignal())
    assert record.status == "completed", record.message
    return watch.mean_step()


def train_bare(trial: Trial, task: Task) -> float:
    """Seconds per step of the loop that one would write by hand."""
    config = trial.config
    model = build_model(task, config)
    routed = RoutedOptimizer(config.optimizer, dict(model.named_parameters()), task.param_labels(model))
    optimizers: list[Any] = [route.optimizer for route in routed.routes]
    generator = make_generator(config.seed, config.task.name, "data")
    watch = Stopwatch()
    for step in range(1, config.task.steps + 1):
        batch = task.batch("train", task.sample(generator))
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
        watch.on_step([], step, loss)
    return watch.mean_step()


def compare(args: argparse.Namespace) -> Iterator[tuple[str, str, float, float, float]]:
    """(task, optimizer, milliseconds of a bare step, of one of ours, ratio); which one goes first alternates."""
    loops: tuple[Callable[[Trial, Task], float], ...] = (train_bare, train_ours)
    for task_name, optimizer in CASES:
        trial, task = make_trial(task_name, optimizer, args)
        seconds: dict[Callable[[Trial, Task], float], list[float]] = {loop: [] for loop in loops}
        for repeat in range(args.repeats):
            for loop in loops if repeat % 2 else reversed(loops):
                seconds[loop].append(loop(trial, task))
        bare, ours = seconds[train_bare], seconds[train_ours]
        ratio = median(b / a for a, b in zip(bare, ours, strict=True))
        row = task_name, optimizer, median(bare) * 1e3, median(ours) * 1e3, ratio
        print("{:<9} {:<8} bare {:7.3f} ms  ours {:7.3f} ms  ratio {:.3f}".format(*row), flush=True)
        yield row


def write(rows: Sequence[tuple[str, str, float, float, float]], args: argparse.Namespace, load: float) -> None:
    """The table with how it was measured."""
    environment = describe_environment(args.device)
    lines = [
        "# What the training loop costs over a bare PyTorch loop",
        "",
        f"Command: `python {' '.join(sys.argv)}`",
        "",
        f"{environment['device_name']}, {count_of(environment['num_threads'], 'thread')}, load {load:.1f} at the "
        f"start; Python {environment['python']}, torch {environment['torch']}, {environment['time'][:10]}. "
        f"Median of {args.repeats} alternating repeats of {args.steps} steps; goal: at most {GOAL} times.",
        "",
        "| task | optimizer | bare, ms/step | ours, ms/step | ratio |",
        "|---|---|---:|---:|---:|",
        *(f"| {task} | {name} | {bare:.3f} | {ours:.3f} | {ratio:.3f} |" for task, name, bare, ours, ratio in rows),
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results/reference/loop_overhead"))
    args = parser.parse_args()
    load = os.getloadavg()[0]
    write(list(compare(args)), args, load)


if __name__ == "__main__":
    main()
