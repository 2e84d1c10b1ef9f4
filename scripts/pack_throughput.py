"""Throughput of packs over training one by one, in one run: trial-steps per second by pack size.

    python scripts/pack_throughput.py --tasks mlp gpt_nano --optimizers adamw adamuon --sizes 8 16 32 --device cpu

Rounds over all sizes are repeated and the median of each is taken, so that a drift of the machine meets all alike.
On a CPU the largest size is also trained in as many one-thread worker processes as torch has threads. A second table
shows which kernels take the time of a pack's step.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from common import compose_plan, describe_machine, publish

from bench.jobs.plan import Plan
from bench.training.clock import StepClock
from bench.training.ensemble import Ensemble
from bench.training.learner import Learner, PlainLearner


def plan_seeds(optimizer: str, task: str, device: str, num_trials: int) -> Plan:
    """As many trials of one structure as the largest pack needs."""
    seeds = ["sweep=seeds", f"sweep.axes.seed=[range,0,{num_trials}]"]
    return compose_plan(f"optimizer={optimizer}", f"task={task}", f"device={device}", *seeds)


def seconds_per_step(learner: Learner, device: str, num_steps: int) -> float:
    """Wall seconds per step, the device synchronised before and after."""
    clock = StepClock(torch.device(device))
    clock.start()
    started = time.perf_counter()
    for _ in range(num_steps):
        learner.step(1.0, clock)
    clock.read()
    return (time.perf_counter() - started) / num_steps


def rate_in_worker(optimizer: str, task: str, size: int, budget: float, start: float) -> float:
    """Trial-steps per second of one pack on one thread, from the moment `start` of the wall clock on."""
    torch.set_num_threads(1)
    plan = plan_seeds(optimizer, task, "cpu", size)
    learner = Ensemble(plan.tasks.get(plan.trials[0].config.task, "cpu"), [trial.config for trial in plan.trials])
    num_steps = max(2, int(budget / seconds_per_step(learner, "cpu", 3)))
    time.sleep(max(0.0, start - time.time()))
    return size / seconds_per_step(learner, "cpu", num_steps)


def rate_in_workers(optimizer: str, task: str, size: int, budget: float) -> float:
    """Trial-steps per second of one-thread workers side by side, after 8 seconds for starting and warming up."""
    num_workers = torch.get_num_threads()
    start = time.time() + 8
    with ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn")) as executor:
        rates = [executor.submit(rate_in_worker, optimizer, task, size, budget, start) for _ in range(num_workers)]
        return sum(rate.result() for rate in rates)


def measure(optimizer: str, task: str, device: str, sizes: Sequence[int], repeats: int, budget: float) -> list[str]:
    """One table row per way of training: trial-steps per second, and the ratio to one by one."""
    plan = plan_seeds(optimizer, task, device, max(sizes))
    loaded = plan.tasks.get(plan.trials[0].config.task, device)
    configs = [trial.config for trial in plan.trials]
    learners: dict[str, tuple[int, Learner]] = {"one by one": (1, PlainLearner(loaded, configs[0]))}
    learners |= {f"pack of {size}": (size, Ensemble(loaded, configs[:size])) for size in sizes}
    steps = {way: max(2, int(budget / seconds_per_step(learner, device, 3))) for way, (_, learner) in learners.items()}
    rates: dict[str, list[float]] = {way: [] for way in learners}
    in_workers = f"packs of {max(sizes)}, {torch.get_num_threads()} workers"
    for _ in range(repeats):
        for way, (size, learner) in learners.items():
            rates[way].append(size / seconds_per_step(learner, device, steps[way]))
        if device == "cpu":
            rates.setdefault(in_workers, []).append(rate_in_workers(optimizer, task, max(sizes), budget))
    base, median = rates["one by one"], statistics.median
    ratios = {way: [rate / alone for rate, alone in zip(rates[way], base, strict=True)] for way in rates}
    return [
        f"| {task} | {optimizer} | {way} | {median(rates[way]):,.0f} | {median(ratios[way]):.2f} "
        f"| {min(ratios[way]):.2f} to {max(ratios[way]):.2f} |"
        for way in rates
    ]


def profile(optimizer: str, task: str, device: str, size: int) -> str:
    """One table row: the kernels that take most of a step of a pack, with their shares of its time."""
    plan = plan_seeds(optimizer, task, device, size)
    learner = Ensemble(plan.tasks.get(plan.trials[0].config.task, device), [trial.config for trial in plan.trials])
    seconds_per_step(learner, device, 3)
    with torch.profiler.profile() as profiler:
        seconds_per_step(learner, device, 5)
    kernels = [
        (event.self_cpu_time_total + event.self_device_time_total, event.key) for event in profiler.key_averages()
    ]
    total = sum(microseconds for microseconds, _ in kernels)
    largest = sorted(kernels, reverse=True)[:6]
    shares = ", ".join(f"{name.removeprefix('aten::')} {microseconds / total:.0%}" for microseconds, name in largest)
    return f"| {task} | {optimizer} | {size} | {shares} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["mlp", "gpt_nano"])
    parser.add_argument("--optimizers", nargs="+", default=["adamw", "adamuon"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[8, 32, 64])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args()
    pairs = [(task, optimizer) for task in options.tasks for optimizer in options.optimizers]
    lines = [
        describe_machine(options.device),
        "",
        "| task | optimizer | way | trial-steps/s | over one by one (median) | range |",
        "|---|---|---|---:|---:|---:|",
    ]
    for task, optimizer in pairs:
        lines += measure(optimizer, task, options.device, options.sizes, options.repeats, options.seconds)
    lines += ["", "| task | optimizer | pack size | where the time of a step goes |", "|---|---|---:|---|"]
    lines += [profile(optimizer, task, options.device, max(options.sizes)) for task, optimizer in pairs]
    publish(lines, options.out)


if __name__ == "__main__":
    main()
