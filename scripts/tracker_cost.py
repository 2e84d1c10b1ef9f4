"""What trackers cost a packed sweep of 32 trials: seconds with each, minus those with none, in turns, as a median.

python scripts/tracker_cost.py [--rounds 5] [--trackers wandb csv]
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time

import bench

SWEEP = ("optimizer=adamw", "task=mlp", "sweep=lr", "sweep.axes.optimizer.lr=[logspace,1e-3,1e-1,32]", "pack_size=32")


def measure(tracker: str) -> float:
    """Seconds of one sweep in a folder of its own, from the plan to the last run."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        plan = bench.plan(*SWEEP, f"tracker={tracker}", f"results_dir={folder}", "device=cpu")
        _ = plan.packing  # measures what a step costs, which is no part of it
        started = time.perf_counter()
        bench.train(plan)
        return time.perf_counter() - started


def main() -> None:
    """Print a line per tracker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trackers", nargs="+", default=["wandb", "csv"])
    options = parser.parse_args()
    for tracker in ("none", *options.trackers):
        measure(tracker)  # imports, and wandb's service, which starts once in a process
    for tracker in options.trackers:
        extra = [measure(tracker) - measure("none") for _ in range(options.rounds)]
        print(f"{tracker}: {statistics.median(extra):.2f} s more, from {min(extra):.2f} to {max(extra):.2f}")


if __name__ == "__main__":
    main()
