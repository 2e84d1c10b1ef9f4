"""What a checkpoint every 50 steps costs, over training without: wall time of whole trainings, in turns, in one run.

python scripts/checkpoint_cost.py --out results/reference/checkpoint_cost/table.md
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from common import compose_plan, describe_machine, publish

from bench.cadence import Cadence
from bench.checkpoint import Checkpoint
from bench.execution import train
from bench.interrupt import StopSignal
from bench.planning import Plan


def plan_trials(task: str, num_trials: int, num_steps: int) -> Plan:
    seeds = ["sweep=seeds", f"sweep.axes.seed=[range,0,{num_trials}]"]
    return compose_plan(f"task={task}", f"task.steps={num_steps}", "task.eval_every=50", "device=cpu", *seeds)


def seconds_of(plan: Plan, checkpoint: Checkpoint | None) -> float:
    """Wall seconds of one training of all trials of the plan as one pack."""
    loaded = plan.tasks.get(plan.trials[0].config.task, "cpu")
    started = time.perf_counter()
    train(plan.trials, loaded, [], StopSignal(), checkpoint)
    seconds = time.perf_counter() - started
    if checkpoint is not None:
        checkpoint.remove()
    return seconds


def measure(task: str, num_trials: int, num_steps: int, every: int, repeats: int, folder: Path) -> str:
    """One table row: the median ratio over pairs of trainings, with their range."""
    plan = plan_trials(task, num_trials, num_steps)
    run_ids: Sequence[str] = [trial.run_id for trial in plan.trials]
    seconds_of(plan, None)
    ratios = []
    for _ in range(repeats):
        plain = seconds_of(plan, None)
        ratios.append(seconds_of(plan, Checkpoint(folder, run_ids, Cadence(steps=every))) / plain)
    median, low, high = (f"{ratio - 1:+.1%}" for ratio in (statistics.median(ratios), min(ratios), max(ratios)))
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
