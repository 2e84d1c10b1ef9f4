"""What a checkpoint every 50 steps costs: seconds spent in writing them, over the other seconds of the same training.

python scripts/checkpoint_cost.py --out results/reference/checkpoint_cost/table.md
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from common import compose_plan, describe_machine, publish

from bench.config.cadence import Cadence
from bench.jobs.plan import Plan
from bench.training.checkpoint import Checkpoint, State
from bench.training.interrupt import StopSignal
from bench.training.train import train


def plan_trials(task: str, num_trials: int, num_steps: int) -> Plan:
    seeds = ["sweep=seeds", f"sweep.axes.seed=[range,0,{num_trials}]"]
    return compose_plan(f"task={task}", f"task.steps={num_steps}", "task.eval_every=50", "device=cpu", *seeds)


class TimedCheckpoint(Checkpoint):
    """A checkpoint that knows the seconds that it has cost."""

    seconds = 0.0

    def save(self, state: State) -> None:
        started = time.perf_counter()
        super().save(state)
        self.seconds += time.perf_counter() - started


def measure_share(plan: Plan, every: int, folder: Path) -> float:
    """Seconds in checkpoints over all other seconds of one training of the plan's trials together."""
    loaded = plan.tasks.get(plan.trials[0].config.task, "cpu")
    checkpoint = TimedCheckpoint(folder, [trial.run_id for trial in plan.trials], Cadence(steps=every))
    started = time.perf_counter()
    train([trial.config for trial in plan.trials], loaded, [], StopSignal(), checkpoint)
    seconds = time.perf_counter() - started
    checkpoint.remove()
    return checkpoint.seconds / (seconds - checkpoint.seconds)


def measure(task: str, num_trials: int, num_steps: int, every: int, repeats: int, folder: Path) -> str:
    """One table row: the median share of several trainings, with their range."""
    plan = plan_trials(task, num_trials, num_steps)
    shares = [measure_share(plan, every, folder) for _ in range(repeats)]
    median, low, high = (f"{share:.2%}" for share in (statistics.median(shares), min(shares), max(shares)))
    return f"| {task} | {num_trials} | {median} | {low} to {high} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["gpt_nano"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args()
    lines = [
        describe_machine("cpu"),
        "",
        f"| task | trials together | checkpoint every {options.every} steps (median of {options.repeats}) | range |",
        "|---|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for task in options.tasks:
            for size in options.sizes:
                arguments = (task, size, options.steps, options.every, options.repeats, Path(folder))
                lines.append(measure(*arguments))
    publish(lines, options.out)


if __name__ == "__main__":
    main()
