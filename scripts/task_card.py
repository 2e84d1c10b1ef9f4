"""What is known of each task: untrained, simple baseline, tuned AdamW, noise between seeds, margin, seconds.

    python scripts/task_card.py mlp vit ... [--other muon] [--out results/reference/tasks]

AdamW and one other optimizer are tuned by learning rate on two seeds, by validation, and trained again on five fresh
seeds at the best one; those give the test loss and its noise. AdamW is trained once more with 90 % of the steps, on the
same seeds: what a tenth of the budget is worth, against which a margin can be held. Rows of other tasks stay in the
table. Trials that are stored below `--results` are not trained again.
"""

import argparse
import csv
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from common import compose_plan, describe_machine
from scipy import stats
from task_baselines import baseline_of

from bench.jobs.job import train_plan
from bench.runs.objective import rank_cells
from bench.runs.schema import Run

LRS = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
TUNING, FRESH = "[0,1]", "[100,101,102,103,104]"
Row = dict[str, str]


def train(args: argparse.Namespace, task: str, optimizer: str, *changes: str) -> list[Run]:
    """The runs of a grid, trained or found."""
    plan = compose_plan(f"task={task}", f"optimizer={optimizer}", f"results_dir={args.results}", *changes)
    return train_plan(plan, tell=False)


def tune(args: argparse.Namespace, task: str, optimizer: str) -> tuple[float, list[Run]]:
    """The best learning rate by validation, and the runs at it on fresh seeds."""
    grid = ["sweep=lr", f"sweep.axes.optimizer.lr={list(LRS)}", f"+sweep.axes.seed={TUNING}"]
    ranked = rank_cells(train(args, task, optimizer, *grid))
    lr = float(str(ranked[0][1][0].cell["optimizer.lr"]))
    return lr, train(args, task, optimizer, f"optimizer.lr={lr}", "sweep=seeds", f"sweep.axes.seed={FRESH}")


def log_losses(runs: Sequence[Run]) -> list[float]:
    """Natural logarithms of the test losses."""
    losses = [run.summary.figures["final_test_loss"] for run in runs if run.status == "completed"]
    return [math.log(max(loss, sys.float_info.min)) for loss in losses if loss is not None]


def describe_noise(logs: Sequence[float]) -> str:
    """Standard deviation of the logarithm with its 95 % interval (chi-squared, normal noise)."""
    n, sigma = len(logs), statistics.stdev(logs)
    low, high = (sigma * math.sqrt((n - 1) / stats.chi2.ppf(share, n - 1)) for share in (0.975, 0.025))
    return f"{sigma:.3f} [{low:.3f}, {high:.3f}]"


def describe_loss(logs: Sequence[float]) -> str:
    """Geometric mean with its 95 % interval (t, of the logarithms)."""
    half = stats.t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return "{:.4g} [{:.4g}, {:.4g}]".format(*(math.exp(statistics.fmean(logs) + side * half) for side in (0, -1, 1)))


def measure(args: argparse.Namespace, task: str) -> Row:
    """The row of one task."""
    lr, adamw = tune(args, task, "adamw")
    other_lr, other = tune(args, task, args.other)
    config = adamw[0].trial("cpu").task
    shorter = ["sweep=seeds", f"sweep.axes.seed={FRESH}", f"task.steps={round(0.9 * config.steps)}"]
    shortened = train(args, task, "adamw", f"optimizer.lr={lr}", *shorter)
    (alone,) = train(args, task, "adamw", f"optimizer.lr={lr}", "seed=100", "pack_size=1", "force=true")
    plan = compose_plan(f"task={task}", f"results_dir={args.results}")
    name, floor = baseline_of(task, plan.tasks.get(plan.trials[0].config.task, "cpu"))
    steps = [run.summary.steps_to_target or math.inf for run in adamw]
    logs, worse = log_losses(adamw), log_losses(shortened)
    return {
        "task": task,
        "steps": str(config.steps),
        "untrained": f"{statistics.fmean(run.summary.initial_val_loss or math.nan for run in adamw):.4g}",
        "simple baseline": f"{floor:.4g}, {name}" if math.isfinite(floor) else name,
        "AdamW's lr": f"{lr:g}",
        "AdamW's test loss": describe_loss(logs),
        "target met after": f"{statistics.median(steps) / config.steps:.0%} ({sum(map(math.isfinite, steps))} of 5)",
        "sigma of AdamW": describe_noise(logs),
        f"sigma of {args.other}": f"{describe_noise(log_losses(other))} at lr {other_lr:g}",
        "margin": f"{config.relevant:g}",
        "10 % fewer steps cost": f"{statistics.fmean(worse) - statistics.fmean(logs):+.3f}",
        "seconds": f"{alone.summary.elapsed_seconds:.1f}",
    }


def write(row: Row, args: argparse.Namespace) -> None:
    """Put the row into `table.csv`, and all of them into `table.md`."""
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "table.csv"
    rows = list(csv.DictReader(file.open(encoding="utf-8"))) if file.is_file() else []
    rows = sorted([*(old for old in rows if old["task"] != row["task"]), row], key=lambda item: item["task"])
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(row), lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
    lines = ["| " + " | ".join(row) + " |", "| " + " | ".join("---" for _ in row) + " |"]
    lines += ["| " + " | ".join(item.get(name) or "" for name in row) + " |" for item in rows]
    names = " ".join(item["task"] for item in rows)
    about = [
        "# What is known of each task",
        "",
        f"Command: `python scripts/task_card.py {names} --other {args.other}`",
        "",
        f"{describe_machine('cpu')}. Five fresh seeds; intervals are 95 %. Losses are on",
        "the test split (untrained and baseline: on validation), sigma and the cost of fewer steps are differences of",
        "their logarithm. Seconds are of one trial alone, evaluations included, on a machine that did other work.",
        "",
    ]
    (args.out / "table.md").write_text("\n".join(about + lines) + "\n", encoding="utf-8")


def main() -> None:
    """Measure the tasks that were named, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--other", default="muon")
    parser.add_argument("--results", default="results/task_card")
    parser.add_argument("--out", type=Path, default=Path("results/reference/tasks"))
    args = parser.parse_args()
    for task in args.tasks:
        row = measure(args, task)
        write(row, args)
        print(*(f"{name}: {value}" for name, value in row.items()), sep="\n", end="\n\n", flush=True)


if __name__ == "__main__":
    main()
