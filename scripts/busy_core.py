"""How much longer a sweep takes where one core is busy with something else, from the shell's prompt to the last run.

    python scripts/busy_core.py --rounds 5 --out results/reference/busy_core/table.md

Each round runs the same command twice into folders of their own, once as it is and once beside a loop that is pinned to
the first core.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import describe_machine, publish
from sweep_speed import seconds_of

COMMAND = ("optimizer=adam", "task=mlp", "sweep=lr")
BUSY_LOOP = "while True: pass"


@contextmanager
def busy_core() -> Iterator[None]:
    """Keep the first core that this process may use busy."""
    core = min(os.sched_getaffinity(0))
    loop = subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, [{core}])\n{BUSY_LOOP}"])
    try:
        yield
    finally:
        loop.kill()
        loop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    calm, busy = [], []
    for _ in range(options.rounds):
        calm.append(seconds_of(COMMAND))
        with busy_core():
            busy.append(seconds_of(COMMAND))
    ratios = [slow / fast for slow, fast in zip(busy, calm, strict=True)]
    lines = [
        f"python scripts/busy_core.py --rounds {options.rounds}",
        f"{describe_machine('cpu')}, load {load:.1f} at the start",
        "",
        f"| {' '.join(COMMAND)} | seconds (median) | least and most |",
        "|---|---:|---:|",
        f"| as it is | {statistics.median(calm):.1f} | {min(calm):.1f} to {max(calm):.1f} |",
        f"| one core busy | {statistics.median(busy):.1f} | {min(busy):.1f} to {max(busy):.1f} |",
        f"| times as long, pair by pair | {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |",
    ]
    publish(lines, options.out)


if __name__ == "__main__":
    main()
