"""What one optimizer step costs, ours against those of torch, pytorch_optimizer and heavyball.

    python scripts/step_cost.py [--repeats 60] [--threads N] [--device cpu] [--algorithm NAME]
        [--out results/reference/step_cost]

Every repeat takes one timed step of every optimizer in a random order, so that all see the same machine. The median
counts; that of the process's own CPU time tells how much other work on the machine has added to it. Between two steps
of one optimizer the others have used the cache, as forward and backward passes would have. Peers that are not installed
are left out. Optimizers of one algorithm compute the same, but for AdaMuon's scale and for what heavyball does to
gradients on the way. "Recent rules" are compared to AdamW, on the hidden matrices alone.
"""

import argparse
import csv
import importlib.metadata
import os
import platform
import random
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from common import describe_machine
from step_cost_candidates import COMPILED, FUSED, RECENT, Build, Shape, candidates, models
from torch import nn

Step = Callable[[], tuple[float, float]]
NUM_WARMUP = 5
FLOOR = """\
Torch's fused AdamW is one C++ kernel written for this rule, which reads and writes every tensor once. So are compiled
rules, of which one call from Python updates up to sixteen large tensors. Where tensors are large a step takes what the
memory takes: AdamW has seven passes over it, and rules with a state more, AdEMAMix and ScheduleFreeAdamW, have nine.
SevenPasses and NinePasses read and write as much and do little more than add. The other forms, ours uncompiled among
them, are the ten or so element-wise kernels of the formula; ours runs them on pieces that fit the cache."""


class Row(NamedTuple):
    """One optimizer on one model: median milliseconds of a step, of its CPU time, and the ratio of both to ours."""

    model: str
    algorithm: str
    optimizer: str
    ms: float
    cpu_ms: float
    times_ours: float
    cpu_times_ours: float


def make_step(build: Build, shapes: Sequence[Shape], device: torch.device) -> Step:
    """A function that takes one step on random parameters and gradients and returns its seconds and its CPU seconds."""
    params = [nn.Parameter(torch.randn(shape, device=device) * 0.02) for shape in shapes]
    grads = [torch.randn_like(param) for param in params]
    optimizer = build(params)

    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def step() -> tuple[float, float]:
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad  # heavyball drops it
        synchronize()
        start, cpu_start = time.perf_counter(), time.process_time()
        optimizer.step()
        synchronize()
        return time.perf_counter() - start, time.process_time() - cpu_start

    return step


def measure(
    builds: dict[str, Build], shapes: Sequence[Shape], args: argparse.Namespace
) -> dict[str, tuple[float, ...]]:
    """Median milliseconds of a step and of its CPU time; an optimizer that cannot run here is told and left out."""
    device = torch.device(args.device)
    steps: dict[str, Step] = {}
    for name, build in builds.items():
        try:
            steps[name] = make_step(build, shapes, device)
            for _ in range(NUM_WARMUP):
                steps[name]()
        except Exception as error:  # a peer's own fault must not cost the others their figures
            print(f"  {name}: left out, {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    order = random.Random(0)
    for _ in range(args.repeats):
        for name in order.sample(list(steps), len(steps)):
            times[name].append(steps[name]())
    return {name: tuple(median(column) * 1e3 for column in zip(*own, strict=True)) for name, own in times.items()}


def run(args: argparse.Namespace) -> list[Row]:
    """One row per model, algorithm and optimizer."""
    rows: list[Row] = []
    everything = [own for own in candidates() if args.algorithm in (None, own[0])]
    for model, (all_shapes, matrices) in models().items():
        for algorithm in dict.fromkeys(algorithm for algorithm, _, _ in everything):
            builds = {name: build for own, name, build in everything if own == algorithm}
            results = measure(builds, all_shapes if algorithm in ("AdamW", COMPILED) else matrices, args)
            our_ms, our_cpu_ms = results["ours"]
            for name, (ms, cpu_ms) in results.items():
                row = Row(model, algorithm, name, ms, cpu_ms, ms / our_ms, cpu_ms / our_cpu_ms)
                print(f"{model:<26} {algorithm:<8} {name:<18} {ms:9.3f} ms  {row.times_ours:6.2f} x ours", flush=True)
                rows.append(row)
    return rows


def write(rows: Sequence[Row], args: argparse.Namespace) -> None:
    """The table as csv and, with how it was measured, as Markdown."""
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "step_cost.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows([*row[:3], *(f"{number:.4f}" for number in row[3:])] for row in rows)
    lines = ["# What one optimizer step costs", "", *_conditions(args), ""]
    lines += ["| model | algorithm | optimizer | ms per step | times ours | CPU ms per step | times ours |"]
    lines += ["|---|---|---|---:|---:|---:|---:|"]
    lines += [
        f"| {row.model} | {row.algorithm} | {row.optimizer} "
        f"| {row.ms:.3f} | {row.times_ours:.2f} | {row.cpu_ms:.3f} | {row.cpu_times_ours:.2f} |"
        for row in rows
    ]
    lines += ["", *_over_fused(rows), FLOOR]
    (args.out / "step_cost.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _over_fused(rows: Sequence[Row]) -> Iterator[str]:
    """A line per model: each compiled rule's CPU time over that of torch's fused AdamW."""
    for fused in (row for row in rows if row.optimizer == FUSED):
        own = [row for row in rows if (row.model, row.algorithm) == (fused.model, COMPILED) and row.optimizer != "ours"]
        ratios = ", ".join(f"{row.optimizer} {row.cpu_ms / fused.cpu_ms:.2f}" for row in own if row is not fused)
        yield from (f"{fused.model}, CPU time of compiled rules over {FUSED}: {ratios}.", "")


def _conditions(args: argparse.Namespace) -> list[str]:
    peers = []
    for package in ("pytorch_optimizer", "heavyball"):
        try:
            peers.append(f", {package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return [
        f"Command: `python {shlex.join(sys.argv)}`",
        "",
        f"{describe_machine(args.device)}, Python {platform.python_version()}{''.join(peers)}. "
        f"Median of {args.repeats} interleaved steps. "
        f"Load average at the start: {args.load:.1f} on {os.cpu_count()} cores.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--algorithm", choices=("AdamW", COMPILED, RECENT, "Muon", "AdaMuon"), help="this one only")
    parser.add_argument("--out", type=Path, default=Path("results/reference/step_cost"))
    args = parser.parse_args()
    args.load = os.getloadavg()[0]
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    write(run(args), args)


if __name__ == "__main__":
    main()
