"""What a GPU makes of packs: throughput by size, compiled too, parts of a step, memory, exact resume and replay.

    python scripts/gpu_check.py [--tasks mlp gpt_nano] [--optimizer adam] [--sizes 1 8 32 128 512] [--out FILE]

The table goes to `results/reference/gpu/table.md`. Every way is measured after
the other; the first steps, which compile, are not measured. `--device cpu` with small sizes tries the
script out, and says nothing about a GPU.
"""

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from common import compose_plan, describe_machine, publish
from pack_throughput import seconds_per_step

from bench.config.schema import TrialConfig
from bench.training.clock import PARTS, StepClock
from bench.training.components import Task
from bench.training.learner import Learner
from bench.training.memory import is_out_of_memory, peak_memory_bytes, reset_peak_memory
from bench.training.train import make_learner

NUM_WARMUP, NUM_EXACT = 3, 5
COMPILES = ("none", "step")


def build(task: Task, configs: Sequence[TrialConfig], compile: str) -> Learner:
    """The learner of these trials, eager or compiled; a single eager one trains the plain way."""
    own = [config.model_copy(update={"compile": compile}) for config in configs]
    return make_learner(task, own, is_pack=len(own) > 1)


def measure(task: Task, configs: Sequence[TrialConfig], compile: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of a step and of its parts, medians over rounds, and peak bytes; empty where memory does not suffice."""
    device = torch.device(options.device)
    reset_peak_memory(device)
    try:
        learner = build(task, configs, compile)
        seconds_per_step(learner, options.device, NUM_WARMUP)
        whole = [seconds_per_step(learner, options.device, options.steps) for _ in range(options.rounds)]
        parts = read_parts(learner, device, options.steps)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return {}
    return {"step": statistics.median(whole), **parts, "memory": float(peak_memory_bytes(device) or 0)}


def read_parts(learner: Learner, device: torch.device, num_steps: int) -> dict[str, float]:
    """Mean seconds of each part of a step."""
    clock = StepClock(device)
    clock.start()
    for _ in range(num_steps):
        learner.step(1.0, clock)
    return {part: seconds / num_steps for part, seconds in clock.read().items()}


def rows_of(task_name: str, options: argparse.Namespace) -> Iterator[str]:
    """A table row for each size, eager and compiled."""
    task, configs = load(task_name, options, max(options.sizes))
    alone = measure(task, configs[:1], "none", options)["step"]
    for size in options.sizes:
        for compile in COMPILES:
            found = measure(task, configs[:size], compile, options)
            yield f"| {task_name} | {size} | {compile} | {describe(found, size, alone)} |"


def describe(found: Mapping[str, float], size: int, alone: float) -> str:
    """The figures of one way as cells of the table."""
    if not found:
        return " | ".join(["out of memory", *["-"] * (2 + len(PARTS))])
    rate = size / found["step"]
    parts = [f"{found[part] * 1e3:.3f}" for part in PARTS]
    memory = f"{found['memory'] / 2**20:,.0f}" if found["memory"] else "not measured"
    return " | ".join([f"{rate:,.0f}", f"{rate * alone:.2f}", *parts, memory])


def exactness_of(task_name: str, compile: str, options: argparse.Namespace) -> str:
    """A table row: the largest difference of losses in a replay and after a restart, over a pack of two."""
    task, configs = load(task_name, options, 2)
    clock = StepClock(torch.device(options.device))

    def losses(learner: Learner) -> torch.Tensor:
        return torch.stack([learner.step(1.0, clock) for _ in range(NUM_EXACT)])

    first, again = build(task, configs, compile), build(task, configs, compile)
    replay = (losses(first) - losses(again)).abs().max().item()
    resumed = build(task, configs, compile)
    resumed.restore(first.state())
    resume = (losses(first) - losses(resumed)).abs().max().item()
    return f"| {task_name} | {compile} | {replay:.1g} | {resume:.1g} |"


def load(task_name: str, options: argparse.Namespace, num_trials: int) -> tuple[Task, list[TrialConfig]]:
    """The task, and as many trials that differ in their seeds."""
    seeds = ["sweep=seeds", f"sweep.axes.seed=[range,0,{num_trials}]"]
    overrides = [f"optimizer={options.optimizer}", f"task={task_name}", f"device={options.device}"]
    plan = compose_plan(*overrides, *options.override, *seeds)
    configs = [trial.config for trial in plan.trials]
    return plan.tasks.get(configs[0].task, options.device), configs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["mlp", "gpt_nano"])
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 8, 32, 128, 512])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50, help="in each round")
    parser.add_argument("--override", nargs="*", default=[], help="of the configuration, as for python -m bench")
    parser.add_argument("--out", type=Path, default=Path("results/reference/gpu/table.md"))
    options = parser.parse_args()
    lines = [
        f"{describe_machine(options.device)}; {options.optimizer}, medians of {options.rounds} rounds of "
        f"{options.steps} steps; one by one is the plain path, uncompiled",
        "",
        f"| task | K | compile | trial-steps/s | over one by one | {' ms | '.join(PARTS)} ms | peak MiB |",
        "|---|---:|---|---:|---:|" + "---:|" * (1 + len(PARTS)),
    ]
    for task in options.tasks:
        lines += rows_of(task, options)
    lines += ["", "Largest difference of losses:", "", "| task | compile | replayed | resumed |", "|---|---|---:|---:|"]
    lines += [exactness_of(task, compile, options) for task in options.tasks for compile in COMPILES]
    publish(lines, options.out)


if __name__ == "__main__":
    main()
