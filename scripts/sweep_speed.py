"""A sweep end to end, three ways, in one run: packed, as a Hydra multirun of single trials, as a process per trial.

    python scripts/sweep_speed.py --trials 64 --steps 300 --out results/reference/sweep_speed/table.md

Each way trains the same trials of `mlp` with AdamW over seeds and stores them. The process per trial is measured on
the first few trials and scaled to all, since every one of them pays the same start.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from common import describe_machine, publish

NUM_PROCESSES = 4  # single processes that are really started


def seconds_of(arguments: Sequence[str]) -> float:
    """Wall seconds of one command line of the harness, into a results folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench", *arguments, "tracker=none", f"results_dir={folder}"]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - started


def measure_once(num_trials: int, num_steps: int) -> dict[str, float]:
    """Seconds of each way, one after the other."""
    common = ["task=mlp", f"task.steps={num_steps}", "task.eval_every=50"]
    sweep = ["sweep=seeds", f"sweep.axes.seed=[range,0,{num_trials}]"]
    singles = [seconds_of([*common, f"seed={seed}"]) for seed in range(NUM_PROCESSES)]
    return {
        "packed": seconds_of([*common, *sweep]),
        "packed, workers=1": seconds_of([*common, *sweep, "workers=1"]),
        "multirun of single trials": seconds_of(["-m", *common, f"seed=range({num_trials})"]),
        f"process per trial ({NUM_PROCESSES} measured)": statistics.mean(singles) * num_trials,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args()
    rounds = [measure_once(options.trials, options.steps) for _ in range(options.repeats)]
    lines = [
        f"python scripts/sweep_speed.py --trials {options.trials} --steps {options.steps} --repeats {options.repeats}",
        describe_machine("cpu"),
        "",
        f"| {options.trials} trials of mlp, {options.steps} steps | seconds (median) | times as long as packed |",
        "|---|---:|---:|",
    ]
    for way in rounds[0]:
        seconds = statistics.median(measured[way] for measured in rounds)
        ratio = statistics.median(measured[way] / measured["packed"] for measured in rounds)
        lines.append(f"| {way} | {seconds:.1f} | {ratio:.2f} |")
    publish(lines, options.out)


if __name__ == "__main__":
    main()
