"""From how much work on compiling whole steps pays, which is what `compile=auto` goes by.

    TORCHINDUCTOR_FORCE_DISABLE_CACHES=1 python scripts/compile_pays.py --out results/reference/compile_pays/table.md

Eager and compiled steps of the same trials in turn, of which the medians count. Compiling is what the first two steps
take; without that variable, less where the compiler has kept its work on disk. A single trial has the threads that its
work asks for, a pack has one, as packs have that train side by side.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import torch
from common import compose_plan, describe_machine, publish

from bench.config.schema import TrialConfig
from bench.jobs.calibration import time_steps
from bench.jobs.threads import count_flops, threads_for, use_threads
from bench.training.components import Task
from bench.training.train import make_learner


def measure(task: Task, configs: Sequence[TrialConfig], repeats: int) -> tuple[float, float, float]:
    """Seconds of an eager step, of a compiled one, and of compiling."""
    device, learners, first = torch.device("cpu"), [], []
    for choice in ("none", "step"):
        own = [config.model_copy(update={"compile": choice}) for config in configs]
        learners.append(make_learner(task, own, is_pack=len(own) > 1))
        first.append(sum(time_steps(learners[-1], 2, device)))
    rounds = [[sum(time_steps(learner, 1, device)) for learner in learners] for _ in range(repeats)]
    eager, compiled = (median(column) for column in zip(*rounds, strict=True))
    return eager, compiled, first[1]


def make_rows(name: str, optimizer: str, sizes: Sequence[int], repeats: int) -> Iterator[str]:
    """A table row for each size."""
    plan = compose_plan(f"optimizer={optimizer}", f"task={name}", f"+sweep.axes.seed=[range,0,{max(sizes)}]")
    configs = [trial.config for trial in plan.trials]
    task = plan.tasks.get(configs[0].task, "cpu")
    flops = count_flops(task, configs[0])
    for size in sizes:
        threads = 1 if size > 1 else threads_for(flops, torch.get_num_threads())
        with use_threads(threads):
            eager, compiled, compiling = measure(task, configs[:size], repeats)
        steps = compiling / (eager - compiled) if compiled < eager else float("inf")
        yield (
            f"| {name} | {size} | {threads} | {1000 * eager:.2f} | {1000 * compiled:.2f} | {eager / compiled:.2f} "
            f"| {compiling:.0f} | {steps:,.0f} | {steps * eager:,.0f} | {steps * size * flops:.1e} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tasks", nargs="+", default=["mlp", "sequence", "graph", "gpt_nano", "resnet_bn", "image_inr"]
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    lines = [
        describe_machine("cpu"),
        "",
        "| task | trials | threads | eager ms | compiled ms | times as fast | compiling s "
        "| pays after steps | which take eagerly s | and count operations |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in args.tasks:
        lines += make_rows(name, args.optimizer, args.sizes, args.repeats)
    publish(lines, args.out)


if __name__ == "__main__":
    main()
