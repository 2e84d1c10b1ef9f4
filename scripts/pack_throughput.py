"""Throughput of packs over training one by one, in one run: trial-steps per second by pack size.

    python scripts/pack_throughput.py --tasks mlp gpt_nano --optimizers adamw adamuon --sizes 8 16 32 --device cpu

Rounds over all sizes are repeated and the median of each is taken, so that a drift of the machine meets all alike.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bench.cli import find_conf_dir
from bench.clock import StepClock
from bench.ensemble import Ensemble
from bench.environment import describe_environment
from bench.learner import Learner, PlainLearner
from bench.planning import Plan, make_plan


def plan_seeds(optimizer: str, task: str, device: str, num_trials: int) -> Plan:
    """As many trials of one structure as the largest pack needs."""
    seeds = ["sweep=seeds", f"sweep.axes.seed=[range,0,{num_trials}]"]
    overrides = [f"optimizer={optimizer}", f"task={task}", f"device={device}", "tracker=none", *seeds]
    with initialize_config_dir(str(find_conf_dir()), version_base="1.3"):
        mapping = OmegaConf.to_container(compose("config", overrides), resolve=True)
    assert isinstance(mapping, dict)
    return make_plan({str(key): value for key, value in mapping.items()})


def seconds_per_step(learner: Learner, device: str, num_steps: int) -> float:
    """Wall seconds per step, the device synchronised before and after."""
    clock = StepClock(torch.device(device))
    clock.start()
    started = time.perf_counter()
    for _ in range(num_steps):
        learner.step(1.0, clock)
    clock.read()
    return (time.perf_counter() - started) / num_steps


def measure(optimizer: str, task: str, device: str, sizes: Sequence[int], repeats: int, budget: float) -> list[str]:
    """One table row per pack size: trial-steps per second, and the ratio to one by one."""
    plan = plan_seeds(optimizer, task, device, max(sizes))
    loaded = plan.tasks.get(plan.trials[0].config.task, device)
    configs = [trial.config for trial in plan.trials]
    learners: dict[int, Learner] = {1: PlainLearner(loaded, configs[0])}
    learners |= {size: Ensemble(loaded, configs[:size]) for size in sizes}
    steps = {size: max(2, int(budget / seconds_per_step(learner, device, 3))) for size, learner in learners.items()}
    rates: dict[int, list[float]] = {size: [] for size in learners}
    for _ in range(repeats):
        for size, learner in learners.items():
            rates[size].append(size / seconds_per_step(learner, device, steps[size]))
    ratios = {size: [rate / base for rate, base in zip(rates[size], rates[1], strict=True)] for size in learners}
    median = statistics.median
    return [
        f"| {task} | {optimizer} | {size} | {median(rates[size]):,.0f} | {median(ratios[size]):.2f} "
        f"| {min(ratios[size]):.2f} to {max(ratios[size]):.2f} |"
        for size in learners
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["mlp", "gpt_nano"])
    parser.add_argument("--optimizers", nargs="+", default=["adamw", "adamuon"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[8, 16, 32])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args()
    machine = describe_environment(options.device)
    lines = [
        f"torch {machine['torch']}, {machine['device_name']}, {machine['num_threads']} threads, {machine['time']}",
        "",
        "| task | optimizer | pack size | trial-steps/s | over one by one (median) | range |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for task in options.tasks:
        for optimizer in options.optimizers:
            sizes, seconds = options.sizes, options.seconds
            lines += measure(optimizer, task, options.device, sizes, options.repeats, seconds)
    print("\n".join(lines))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
