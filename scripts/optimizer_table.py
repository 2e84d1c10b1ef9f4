"""Every optimizer of ours and of torch at its defaults on mlp and gpt_nano: what it reaches and what it costs.

    python scripts/optimizer_table.py [NAME ...] [--rounds 3] [--device cpu] [--out results/reference/optimizer_table]

Trains one by one, so that a step's time is its own. A round trains everything once: the losses of all rounds are the
same, times are compared with AdamW's of the same round, and the median round counts. Exits 1 where an optimizer misses
90 % validation accuracy on mlp or the loss of a bigram count model on gpt_nano.
"""

import argparse
import csv
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bench.cli import find_conf_dir
from bench.execution import PackRunner, Run
from bench.interrupt import StopSignal
from bench.packing import Pack
from bench.planning import make_plan
from bench.store import Store
from tasks.corpora import bigram_loss
from tasks.gpt_nano import GPTTask

BASELINE = "adamw"
TASKS = ("mlp", "gpt_nano")
MIN_ACCURACY = 0.9
Row = dict[str, Any]


def default_names() -> list[str]:
    """Optimizers of this repository and of torch, the baseline first."""
    files = (find_conf_dir() / "optimizer").glob("*.yaml")
    targets = {file.stem: str(OmegaConf.select(OmegaConf.load(file), "_target_")) for file in files}
    names = sorted(name for name, target in targets.items() if target.startswith(("optimizers.", "torch.")))
    return [BASELINE, *(name for name in names if name != BASELINE)]


def train(optimizer: str, task: str, device: str, results_dir: str) -> tuple[Run, float | None]:
    """What stands in `run.json` of one trial at all defaults, and the bigram model's loss where the task has text."""
    overrides = [f"optimizer={optimizer}", f"task={task}", f"device={device}", f"results_dir={results_dir}"]
    with initialize_config_dir(str(find_conf_dir()), version_base="1.3"):
        container = OmegaConf.to_container(compose("config", [*overrides, "tracker=none"]), resolve=True)
    assert isinstance(container, dict)
    plan = make_plan({str(key): value for key, value in container.items()})
    (trial,) = plan.trials
    loaded = plan.tasks.get(trial.config.task, trial.config.device)
    with StopSignal() as stop:
        (run,) = PackRunner(Store(plan.session.results_dir), plan.session.tracker, [], stop).run(Pack((trial,)), loaded)
    if stop.number is not None:
        raise SystemExit(128 + stop.number)
    return run, bigram_loss(loaded) if isinstance(loaded, GPTTask) else None


def measure(args: argparse.Namespace) -> tuple[list[Row], Mapping[str, Any]]:
    """A row per optimizer and task, and the environment that the runs have noted."""
    names = args.names or default_names()
    rows: dict[tuple[str, str], Row] = {}
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(args.rounds):
        for task in TASKS:
            for name in dict.fromkeys([BASELINE, *names]):
                with TemporaryDirectory() as folder:
                    run, bigram = train(name, task, args.device, folder)
                rows[name, task] = describe(run, bigram)
                times.setdefault((name, task), []).append(run["summary"]["step_seconds"] or float("nan"))
                print(f"round {number + 1}: {name:<15} {task:<9} val_loss {rows[name, task]['val_loss']}", flush=True)
    for (name, task), row in rows.items():
        own, baseline = times[name, task], times[BASELINE, task]
        row["ms_per_step"] = f"{median(own) * 1e3:.3f}"
        row["times_adamw"] = f"{median(a / b for a, b in zip(own, baseline, strict=True)):.2f}"
    return list(rows.values()), run["environment"]


def describe(run: Run, bigram: float | None) -> Row:
    """The row of one run; its times are filled in when all rounds are done."""
    summary, optimizer = run["summary"], run["config"]["optimizer"]
    loss, accuracy = summary.get("final_val_loss"), summary.get("final_val_accuracy")
    solved = loss < bigram if bigram is not None and loss is not None else (accuracy or 0.0) >= MIN_ACCURACY
    return {
        "optimizer": optimizer["name"],
        "task": run["config"]["task"]["name"],
        "lr": f"{optimizer['lr']:g}",
        "status": run["status"],
        "solved": solved and run["status"] == "completed",
        "val_loss": "" if loss is None else f"{loss:.4f}",
        "val_accuracy": "" if accuracy is None else f"{accuracy:.3f}",
        "bigram_loss": "" if bigram is None else f"{bigram:.4f}",
        "ms_per_step": "",
        "times_adamw": "",
        "optimizer_share": f"{summary['optimizer_share'] or 0.0:.3f}",
        "state_bytes_per_parameter": f"{summary['state_bytes'] / max(summary['num_parameters'], 1):.2f}",
    }


def write(rows: Sequence[Row], environment: Mapping[str, Any], args: argparse.Namespace, load: float) -> None:
    """`table.csv` with everything, and `table.md` for readers, a line per optimizer."""
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    bigram = next(row["bigram_loss"] for row in rows if row["bigram_loss"])
    lines = [
        "# What every optimizer reaches and costs at its defaults",
        "",
        f"Command: `python {' '.join(sys.argv)}`",
        "",
        f"{environment['device_name']}, {environment['num_threads']} threads, load {load:.1f} at the start; fairstep "
        f"{environment['bench_version']}, Python {environment['python']}, torch {environment['torch']}, "
        f"{environment['time'][:10]}. Times: median of {args.rounds} rounds. Share and state: on gpt_nano.",
        f"The bigram count model has a validation loss of {bigram}.",
        "",
        "| optimizer | mlp: loss | accuracy | ms/step | x AdamW | gpt_nano: loss | below bigram | ms/step | x AdamW "
        "| optimizer's share | state bytes per parameter |",
        "|---|" + "---:|" * 10,
    ]
    by_key = {(row["optimizer"], row["task"]): row for row in rows}
    for name in dict.fromkeys(row["optimizer"] for row in rows):
        mlp, gpt = (by_key[name, task] for task in TASKS)
        share = f"{float(gpt['optimizer_share']):.0%}"
        cells = [name, mlp["val_loss"], mlp["val_accuracy"], mlp["ms_per_step"], mlp["times_adamw"], gpt["val_loss"]]
        cells += ["yes" if gpt["solved"] else "NO", gpt["ms_per_step"], gpt["times_adamw"], share]
        lines.append("| " + " | ".join([*cells, gpt["state_bytes_per_parameter"]]) + " |")
    (args.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="optimizers of conf/optimizer, instead of the above")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results/reference/optimizer_table"))
    args = parser.parse_args()
    load = os.getloadavg()[0]
    rows, environment = measure(args)
    write(rows, environment, args, load)
    missed = [f"{row['optimizer']} on {row['task']}" for row in rows if not row["solved"]]
    if missed:
        sys.exit(f"not solved at its defaults: {', '.join(missed)}")


if __name__ == "__main__":
    main()
