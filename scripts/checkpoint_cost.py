"""What a checkpoint every 50 steps costs, over training without: wall time of whole trainings, in turns, in one run.

python scripts/checkpoint_cost.py --out results/reference/checkpoint_cost/table.md
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bench.cadence import Cadence
from bench.checkpoint import Checkpoint
from bench.cli import find_conf_dir
from bench.environment import describe_environment
from bench.execution import train
from bench.interrupt import StopSignal
from bench.planning import Plan, make_plan


def plan_trials(task: str, num_trials: int, num_steps: int) -> Plan:
    overrides = [f"task={task}", f"task.steps={num_steps}", "task.eval_every=50", "tracker=none", "device=cpu"]
    seeds = ["sweep=seeds", f"sweep.axes.seed=[range,0,{num_trials}]"]
    with initialize_config_dir(str(find_conf_dir()), version_base="1.3"):
        mapping = OmegaConf.to_container(compose("config", [*overrides, *seeds]), resolve=True)
    assert isinstance(mapping, dict)
    return make_plan({str(key): value for key, value in mapping.items()})


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
    machine = describe_environment("cpu")
    lines = [
        f"torch {machine['torch']}, {machine['device_name']}, {machine['num_threads']} threads, {machine['time']}",
        "",
        f"| task | trials together | checkpoint every {options.every} steps (median of {options.repeats}) | range |",
        "|---|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for task in options.tasks:
            for size in options.sizes:
                arguments = (task, size, options.steps, options.every, options.repeats, Path(folder))
                lines.append(measure(*arguments))
    print("\n".join(lines))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
