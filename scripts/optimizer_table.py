"""Every optimizer of ours and of torch at its defaults on mlp and gpt_nano: what it reaches and what it costs.

    python scripts/optimizer_table.py [--only soap scion ...] [--rounds 7] [--out results/reference/optimizer_table]

Trains one by one, so that a step's time is its own: once to the end for the losses, then in rounds of short runs of
everything in turn, so that all see the same machine. Times are compared with AdamW's of the same round, and the median
round counts; `--rounds 0` leaves them blank, for a machine that does other work: losses do not depend on that. The
table is written after every optimizer, and `--only` measures some and keeps the rows of all others. Exits 1 where an
optimizer misses 90 % accuracy on mlp or the loss of a bigram count model on gpt_nano.
"""

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from common import compose_plan
from omegaconf import OmegaConf

from bench.config.folders import find_conf_dir
from bench.errors import count_of
from bench.jobs.packing import Pack
from bench.jobs.runner import PackRunner
from bench.runs.schema import Environment, Run
from bench.training.interrupt import StopSignal
from tasks.gpt_nano import GPTTask, bigram_loss

BASELINE = "adamw"
TASKS = ("mlp", "gpt_nano")
MIN_ACCURACY = 0.9
SHORT = ("task.steps=40", "task.eval_every=8")  # of a run that only measures time, the median of five intervals
Row = dict[str, Any]
Rows = dict[tuple[str, str], Row]


def optimizer_names() -> list[str]:
    """Optimizers of this repository and of torch, the baseline first."""
    files = (find_conf_dir() / "optimizer").glob("*.yaml")
    targets = {file.stem: str(OmegaConf.select(OmegaConf.load(file), "_target_")) for file in files}
    names = sorted(name for name, target in targets.items() if target.startswith(("optimizers.", "torch.")))
    return [BASELINE, *(name for name in names if name != BASELINE)]


def train(optimizer: str, task: str, *changes: str) -> tuple[Run, float | None]:
    """What stands in `run.json` of one trial at the defaults, and the bigram model's loss where the task has text."""
    with StopSignal() as stop, TemporaryDirectory() as folder:
        plan = compose_plan(f"optimizer={optimizer}", f"task={task}", f"results_dir={folder}", *changes)
        (trial,) = plan.trials
        loaded = plan.tasks.get(trial.config.task, trial.config.device)
        (run,), _ = PackRunner(plan.session, [], stop, plan.tasks).run(Pack((trial,)))
    if stop.number is not None:
        raise SystemExit(128 + stop.number)
    return run, bigram_loss(loaded) if isinstance(loaded, GPTTask) else None


def read(folder: Path) -> Rows:
    """The rows of an earlier `table.csv`, if there is one."""
    file = folder / "table.csv"
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as stream:
        rows = [{**row, "solved": row["solved"] == "True"} for row in csv.DictReader(stream)]
    return {(row["optimizer"], row["task"]): row for row in rows}


def measure(args: argparse.Namespace) -> list[Row]:
    """Trains what was asked for, writes the table after each, and returns the rows that were measured."""
    load, rows = os.getloadavg()[0], read(args.out)
    cases = [(name, task) for name in args.only for task in TASKS]
    for name, task in cases:
        run, bigram = train(name, task)
        rows[name, task] = describe(run, bigram)
        print(f"{name:<15} {task:<9} {run.status}, val_loss {rows[name, task]['val_loss']}", flush=True)
        if task == TASKS[-1]:
            write(rows, run.environment, args, load)
    if args.rounds:
        for case, times in time_rounds(cases, args.rounds).items():
            rows[case] |= times
        write(rows, run.environment, args, load)
    return [rows[case] for case in cases]


def time_rounds(cases: Sequence[tuple[str, str]], num_rounds: int) -> dict[tuple[str, str], Row]:
    """Milliseconds of a step, and that of AdamW's in the same round, of each case."""
    timed = dict.fromkeys([*((BASELINE, task) for task in TASKS), *cases])
    times: dict[tuple[str, str], list[float]] = {case: [] for case in timed}
    for number in range(num_rounds):
        for name, task in timed:
            run, _ = train(name, task, *SHORT)
            times[name, task].append(run.summary.step_seconds or float("nan"))
        print(f"timed round {number + 1} of {num_rounds}", flush=True)
    found = {}
    for name, task in cases:
        ratios = [own / baseline for own, baseline in zip(times[name, task], times[BASELINE, task], strict=True)]
        found[name, task] = {
            "ms_per_step": f"{median(times[name, task]) * 1e3:.3f}",
            "times_adamw": f"{median(ratios):.2f}",
        }
    return found


def describe(run: Run, bigram: float | None) -> Row:
    """The row of one run; its times are filled in when all rounds are done."""
    summary, optimizer = run.summary, run.config["optimizer"]
    loss, accuracy = summary.final_val_loss, summary.figures.get("final_val_accuracy")
    solved = loss < bigram if bigram is not None and loss is not None else (accuracy or 0.0) >= MIN_ACCURACY
    return {
        "optimizer": optimizer["name"],
        "task": run.config["task"]["name"],
        "lr": f"{optimizer['lr']:g}",
        "status": run.status,
        "solved": solved and run.status == "completed",
        "val_loss": "" if loss is None else f"{loss:.4f}",
        "val_accuracy": "" if accuracy is None else f"{accuracy:.3f}",
        "bigram_loss": "" if bigram is None else f"{bigram:.4f}",
        "ms_per_step": "",
        "times_adamw": "",
        "optimizer_share": f"{summary.optimizer_share or 0.0:.0%}",
        "state_bytes_per_parameter": f"{summary.state_bytes / max(summary.num_parameters, 1):.2f}",
    }


def write(rows: Rows, environment: Environment, args: argparse.Namespace, load: float) -> None:
    """`table.csv` with everything, and `table.md` for readers, a line per optimizer."""
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(next(iter(rows.values()))), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())
    bigram = next(row["bigram_loss"] for row in rows.values() if row["bigram_loss"])
    lines = [
        "# What every optimizer reaches and costs at its defaults",
        "",
        f"Command: `python {' '.join(sys.argv)}`",
        "",
        f"{environment.device_name}, {count_of(environment.num_threads, 'thread')}, load {load:.1f} at the start; "
        f"fairstep {environment.bench_version}, Python {environment.python}, torch {environment.torch}, "
        f"{environment.time[:10]}. Times: median of {args.rounds} rounds, whose noise shows in adam, which does "
        "AdamW's work; `python -m bench.times` tells steps apart with an interval. Share and state: on gpt_nano.",
        f"The bigram count model has a validation loss of {bigram}.",
        "",
        "| optimizer | mlp: loss | accuracy | ms/step | x AdamW | gpt_nano: loss | below bigram | ms/step | x AdamW "
        "| optimizer's share | state bytes per parameter |",
        "|---|" + "---:|" * 10,
    ]
    for name in dict.fromkeys(name for name, _ in rows):
        mlp, gpt = (rows[name, task] for task in TASKS)
        cells = [name, mlp["val_loss"], mlp["val_accuracy"], mlp["ms_per_step"], mlp["times_adamw"], gpt["val_loss"]]
        cells += ["yes" if gpt["solved"] else "NO", gpt["ms_per_step"], gpt["times_adamw"]]
        lines.append("| " + " | ".join([*cells, gpt["optimizer_share"], gpt["state_bytes_per_parameter"]]) + " |")
    (args.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = optimizer_names()
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", default=names)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("results/reference/optimizer_table"))
    rows = measure(parser.parse_args())
    missed = [f"{row['optimizer']} on {row['task']}" for row in rows if not row["solved"]]
    if missed:
        sys.exit(f"not solved at its defaults: {', '.join(missed)}")


if __name__ == "__main__":
    main()
