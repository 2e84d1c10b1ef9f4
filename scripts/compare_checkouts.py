"""Whether two checkouts train alike: the losses of every optimizer, single and packed, compared bit by bit.

    python scripts/compare_checkouts.py OLD NEW [--optimizers adam muon] [--steps 6]

Trains every yaml of NEW's conf/optimizer that OLD has too, on a small `mlp` and a small `gpt_nano`, alone and in a
pack of three seeds, from both checkouts, and prints one line per case that differs. Exit code 1 if there is one.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import pandas as pd

SMALL = {
    "mlp": ["task.width=16", "task.batch_size=16"],
    "gpt_nano": ["task.num_layers=1", "task.width=16", "task.context=16", "task.batch_size=2"],
}
MODES = {"alone": [], "packed": ["sweep=seeds", "sweep.axes.seed=[0,1,2]", "pack_size=3"]}
TRAIN_ALL = """
import json, sys
from bench.__main__ import main
for command in json.load(sys.stdin):
    sys.argv = ["bench", *command]
    try:
        main()
    except SystemExit as end:
        if end.code:
            print(*command[:2], "ends with code", end.code, file=sys.stderr)
"""
Losses: TypeAlias = dict[tuple[str, str, str, int], pd.DataFrame]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--optimizers", nargs="+", help="names of yaml files; by default all that both checkouts have")
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    names = options.optimizers or sorted(_optimizers(options.old) & _optimizers(options.new))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        results = [Path(folder, side) for side in ("old", "new")]
        trained = pool.map(train, (options.old, options.new), results, [names] * 2, [options.steps] * 2)
        old, new = list(trained)
    differences = list(compare(old, new))
    print(*differences, sep="\n")
    print(f"{len(old.keys() | new.keys())} trainings of {len(names)} optimizers: {len(differences)} differ")
    return 1 if differences else 0


def _optimizers(checkout: Path) -> set[str]:
    return {file.stem for file in (checkout / "conf" / "optimizer").glob("*.yaml")}


def train(checkout: Path, results: Path, names: Sequence[str], steps: int) -> Losses:
    """Train all cases from one checkout, in a process of its own, and read what it stored."""
    commands = [
        [f"optimizer={name}", f"task={task}", *small, *mode, f"task.steps={steps}", f"task.eval_every={steps}",
         "tracker=none", "device=cpu", f"results_dir={results / label}"]
        for name in names for task, small in SMALL.items() for label, mode in MODES.items()
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", TRAIN_ALL], input=json.dumps(commands), text=True, check=True,
                   stdout=subprocess.DEVNULL, cwd=checkout, env=environment)  # fmt: skip
    return {key: losses for label in MODES for key, losses in _read(results / label, label)}


def _read(results: Path, label: str) -> Iterator[tuple[tuple[str, str, str, int], pd.DataFrame]]:
    for file in results.rglob("run.json"):
        run = json.loads(file.read_text())
        metrics = file.with_name("metrics.parquet")
        if metrics.exists():
            key = (run["config"]["optimizer"]["name"], run["config"]["task"]["name"], label, run["seed"])
            yield key, pd.read_parquet(metrics)


def compare(old: Losses, new: Losses) -> Iterator[str]:
    """One line per case that differs: the first column that does, and by how much."""
    for key in sorted(old.keys() | new.keys()):
        name = f"{key[0]} on {key[1]}, {key[2]}, seed {key[3]}"
        if key not in old or key not in new:
            yield f"{name}: trains only in the {'new' if key in new else 'old'} one"
            continue
        columns = [column for column in old[key] if column in new[key] and not column.endswith("_seconds")]
        for column in columns:
            before, after = old[key][column].to_numpy(), new[key][column].to_numpy()
            if before.tobytes() != after.tobytes():
                steps = old[key]["step"]
                different = [bits(a) != bits(b) for a, b in zip(before, after, strict=False)]
                first = different.index(True) if True in different else len(different)
                if first == len(different):
                    yield f"{name}: {column} has {len(before)} rows, then {len(after)}"
                else:
                    yield f"{name}: {column} at step {steps[first]}: {before[first]!r}, then {after[first]!r}"
                break


def bits(value: float) -> str:
    return "nan" if math.isnan(value) else float(value).hex()


if __name__ == "__main__":
    sys.exit(main())
