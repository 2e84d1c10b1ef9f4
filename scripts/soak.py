"""Kill a sweep with SIGKILL at random moments, start it again each time, and compare it with an undisturbed one.

    python scripts/soak.py --kills 100

The sweep has packs and writes a checkpoint every 50 steps. Three kills of four come while it trains, within a second
of its beginning, the others at any moment from its start on. In the end every trial must be complete, there once, and
equal to the undisturbed one in every bit of its losses; exit code 1 if not.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

TRAINING_SECONDS = 1.0  # the longest that a killed process trains


def command(results: Path, num_trials: int, num_steps: int) -> list[str]:
    task = ["task=mlp", "task.width=16", "task.batch_size=16", f"task.steps={num_steps}", "task.eval_every=100"]
    sweep = ["sweep=seeds", f"sweep.axes.seed=[range,0,{num_trials}]", "pack_size=4", "checkpoint_every=50"]
    return [sys.executable, "-m", "bench", *task, *sweep, "tracker=none", f"results_dir={results}"]


def run(arguments: list[str]) -> None:
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_once(arguments: list[str], results: Path, moments: random.Random, start_seconds: float) -> bool:
    """Start the sweep and kill it at a random moment. Returns whether it was still running then."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    if moments.random() < 0.75:
        while process.poll() is None and not list((results / ".claims").glob(f"*-{process.pid}-*.json")):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, TRAINING_SECONDS))
    else:
        time.sleep(moments.uniform(0, start_seconds))
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return running


def read(results: Path) -> dict[str, str]:
    """Every stored run by its id: its status, and its rows without their times, as text in which every bit shows."""
    runs = {}
    for path in results.glob("*/*/*/run.json"):
        run = json.loads(path.read_text(encoding="utf-8"))
        assert run["run_id"] == path.parent.name
        table = pq.read_table(path.parent / "metrics.parquet")
        names = [name for name in table.column_names if not name.endswith("_seconds")]
        runs[run["run_id"]] = f"{run['status']} {table.select(names).to_pydict()!r}"
    return runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        calm, killed = Path(folder) / "calm", Path(folder) / "killed"
        started = time.monotonic()
        run(command(calm, options.trials, options.steps))
        calm_seconds = time.monotonic() - started
        arguments = command(killed, options.trials, options.steps)
        hits = sum(kill_once(arguments, killed, moments, start_seconds=4.0) for _ in range(options.kills))
        done_before = len(read(killed))
        run(arguments)
        expected, found = read(calm), read(killed)
        leftovers = [path for path in killed.rglob("*") if path.suffix in (".tmp", ".ckpt", ".damaged")]
    differing = [run_id for run_id, text in expected.items() if found.get(run_id) != text]
    print(f"undisturbed: {len(expected)} trials in {calm_seconds:.0f} s")
    print(f"{hits} of {options.kills} kills hit a running sweep; {done_before} trials were done after the last of them")
    print(f"in the end: {len(found)} trials, {len(differing)} differ, {len(leftovers)} leftovers")
    return 0 if not differing and len(found) == len(expected) and not leftovers else 1


if __name__ == "__main__":
    sys.exit(main())
