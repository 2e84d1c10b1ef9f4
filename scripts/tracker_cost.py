"""What trackers cost a packed sweep of 32 trials: with each, minus with none, in turns, as a median.

Seconds of this process's CPU, which a busy machine disturbs less than the clock, and of the clock; and the share of the
tracker's files in the bytes of the results folder. wandb's own service takes CPU besides, in a process of its own.

python scripts/tracker_cost.py [--rounds 5] [--trackers wandb csv]
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path

import bench

SWEEP = ("optimizer=adamw", "task=mlp", "sweep=lr", "sweep.axes.optimizer.lr=[logspace,1e-3,1e-1,32]", "pack_size=32")


def measure(tracker: str) -> tuple[float, float, float]:
    """CPU and clock seconds of one sweep in a folder of its own, and the share of bytes outside of its runs."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        plan = bench.plan(*SWEEP, f"tracker={tracker}", f"results_dir={folder}", "device=cpu")
        _ = plan.packing  # measures what a step costs, which is no part of it
        cpu, clock = time.process_time(), time.perf_counter()
        bench.train(plan)
        cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
        return cpu, clock, _bytes_below(Path(folder, tracker)) / _bytes_below(Path(folder))


def _bytes_below(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Print a line per tracker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trackers", nargs="+", default=["wandb", "csv"])
    options = parser.parse_args()
    for tracker in ("none", *options.trackers):
        measure(tracker)  # imports, and wandb's service, which starts once in a process
    for tracker in options.trackers:
        turns = [(measure(tracker), measure("none")) for _ in range(options.rounds)]
        for kind, name in enumerate(("CPU", "clock")):
            extra = [told[kind] - untold[kind] for told, untold in turns]
            low, high = min(extra), max(extra)
            print(f"{tracker}: {statistics.median(extra):.2f} s more of the {name}, from {low:.2f} to {high:.2f}")
        print(f"{tracker}: {turns[-1][0][2]:.0%} of the bytes in the results folder")


if __name__ == "__main__":
    main()
